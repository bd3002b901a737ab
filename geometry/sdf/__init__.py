"""Neural signed distance fields of heads: NPHM's identity and expression fields, and NPM, the global baseline.

    layout, mlp, blend        the ensemble's numbers; the MLP and its folded form; Gaussian blending
    identity, expression      the networks, with the authors' parameter names
    checkpoints               their files and latent codes
    fast_mlp, fast, culled    evaluation without autograd, and the members that matter only, with every gradient
    narrow_band, marching,
    extract                   latents -> meshes, neutral and posed
    root_finding, fitting     observed points -> canonical points -> latents
    losses, metrics           L_id, L_ex; Chamfer distance, normal consistency, F-score
    anchors, frame            39 anchors on any head model; the fields' frame and metres

Fields live in the authors' frame: FLAME's axes, one unit is 250 mm.
"""

from .anchors import FieldFrame as FieldFrame
from .anchors import anchor_embedding as anchor_embedding
from .anchors import mean_anchors as mean_anchors
from .checkpoints import SdfCheckpoint as SdfCheckpoint
from .checkpoints import expression_field as expression_field
from .checkpoints import identity_field as identity_field
from .checkpoints import npm_field as npm_field
from .checkpoints import read_checkpoint as read_checkpoint
from .culled import culled_sdf as culled_sdf
from .expression import ExpressionConfig as ExpressionConfig
from .expression import ExpressionField as ExpressionField
from .extract import SdfMesh as SdfMesh
from .extract import box_grid as box_grid
from .extract import extract_identity as extract_identity
from .extract import extract_posed as extract_posed
from .extract import extract_surface as extract_surface
from .extract import pose_mesh as pose_mesh
from .fast import FastIdentity as FastIdentity
from .fast_network import FastNetwork as FastNetwork
from .fitting import FitConfig as FitConfig
from .fitting import PointCloudFit as PointCloudFit
from .fitting import fit_point_clouds as fit_point_clouds
from .identity import IdentityConfig as IdentityConfig
from .identity import IdentityField as IdentityField
from .layout import EnsembleLayout as EnsembleLayout
from .metrics import SurfaceComparison as SurfaceComparison
from .metrics import compare_surfaces as compare_surfaces
from .mlp import DeepSDF as DeepSDF
from .root_finding import canonical_points as canonical_points
