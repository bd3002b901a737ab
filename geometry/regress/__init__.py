"""Networks that read a head off a photo: our own, DECA and EMOCA with their authors' weights, and losses for such.

resnet ─ encoder ─┐
detail_decoder ───┼─ deca (load_deca, load_emoca: encode, decode) ─ photo (head and camera of the whole photo)
codes ─ crop ─────┤
assets ─ uv_maps ─ detail ─ lights ─ render ─ decode
torch_archive ─ checkpoints ─ weights ─ emoca_buffers     reading the authors' files
losses/                                                  what they are trained with
default_crop ─ default_net ─ default_decode ─ default_regressor (load_default_regressor: the default head, bundled)
"""

from .assets import DetailAssets as DetailAssets
from .assets import load_detail_assets as load_detail_assets
from .codes import DecaCode as DecaCode
from .codes import ExpressionOutputs as ExpressionOutputs
from .crop import CropTransform as CropTransform
from .crop import FaceSquare as FaceSquare
from .deca import Deca as Deca
from .deca import load_deca as load_deca
from .deca import load_emoca as load_emoca
from .default_regressor import DefaultRegressor as DefaultRegressor
from .default_regressor import load_default_regressor as load_default_regressor
from .photo import PhotoHead as PhotoHead
from .photo import head_from_photo as head_from_photo
