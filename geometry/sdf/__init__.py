"""Neural signed distance fields of heads: NPHM's identity and expression fields, and NPM, the global baseline.

    layout, mlp, blend        the ensemble's numbers; the MLP and its folded form; Gaussian blending
    identity, expression      the networks, with the authors' parameter names
    checkpoints               their files and latent codes
    fast_mlp, fast, csrc      evaluation without autograd by the native module, of the members that matter
    culled, fused             the members that matter with every gradient; the same in Triton kernels on CUDA
    narrow_band, marching,
    extract                   latents -> meshes, neutral and posed
    root_finding, fitting     observed points -> canonical points -> latents
    scan_points, align,
    fit_scan                  scans in any frame and unit -> a neural head laid on them
    imface                    template and correction fields: a baseline
    head_fields, field_files,
    default_fields            both fields and their latents as one value; our own file of them; those that come along
    value_gradient,
    blended_gradient          values and gradients in one differentiable pass: what training asks for
    sampling, training_set,
    model_heads               points and correspondences of any head model's people (datasets/nphm.py: of scans)
    training, training_loop,
    training_expression,
    train_fields, presets     auto-decoder training of NPHM and NPM
    registered, linear_heads,
    linear_fit, latent_fit    heads in correspondence; global and local PCA; all of them fitted to points
    losses, metrics           L_id, L_ex; Chamfer distance, normal consistency, F-score
    anchors, frame            39 anchors on any head model; the fields' frame and metres

Fields live in the authors' frame: FLAME's axes, one unit is 250 mm.
"""

from .align import Alignment as Alignment
from .anchors import FieldFrame as FieldFrame
from .anchors import anchor_embedding as anchor_embedding
from .anchors import mean_anchors as mean_anchors
from .checkpoints import SdfCheckpoint as SdfCheckpoint
from .checkpoints import expression_field as expression_field
from .checkpoints import identity_field as identity_field
from .checkpoints import npm_field as npm_field
from .checkpoints import read_checkpoint as read_checkpoint
from .culled import culled_sdf as culled_sdf
from .default_fields import load_default_fields as load_default_fields
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
from .field_files import load_fields as load_fields
from .field_files import save_fields as save_fields
from .fit_scan import NeuralFit as NeuralFit
from .fit_scan import ScanFitConfig as ScanFitConfig
from .fit_scan import fit_neural_head as fit_neural_head
from .fitting import FitConfig as FitConfig
from .fitting import PointCloudFit as PointCloudFit
from .fitting import fit_point_clouds as fit_point_clouds
from .fused_identity import FusedIdentity as FusedIdentity
from .fused_identity import fast_surface as fast_surface
from .head_fields import HeadFields as HeadFields
from .identity import IdentityConfig as IdentityConfig
from .identity import IdentityField as IdentityField
from .layout import EnsembleLayout as EnsembleLayout
from .metrics import SurfaceComparison as SurfaceComparison
from .metrics import compare_surfaces as compare_surfaces
from .mlp import DeepSDF as DeepSDF
from .root_finding import canonical_points as canonical_points
from .scan_points import Scan as Scan
from .scan_points import depth_scan as depth_scan
