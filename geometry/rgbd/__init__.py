"""RGB-D: depth maps, point clouds and meshes, and the ways between them.

depth map ⇄ organised cloud (`cloud`) ⇄ mesh (`mesh`) ──> RGB-D picture (`render`: meshes, `splat`: points)
depth camera ──> colour camera (`register`);  holes filled, confidence kept (`holes`);  noise (`filters`)
normals (`normals`);  a person, a face (`crop`)
many frames: sharp, spread views (`selection`), rigid alignment (`icp`), one surface (`tsdf`, `fusion`)
"""

from .cloud import PointCloud as PointCloud
from .cloud import cloud_from_depth as cloud_from_depth
from .cloud import depth_from_cloud as depth_from_cloud
from .crop import cropped as cropped
from .crop import face_window as face_window
from .crop import person_mask as person_mask
from .filters import bilateral_filter as bilateral_filter
from .filters import temporal_filter as temporal_filter
from .filters import without_flying_pixels as without_flying_pixels
from .holes import complete_depth as complete_depth
from .mesh import DepthMesh as DepthMesh
from .mesh import mesh_from_depth as mesh_from_depth
from .normals import depth_normals as depth_normals
from .register import register_depth as register_depth
from .render import DepthPicture as DepthPicture
from .render import render_mesh as render_mesh
from .splat import render_points as render_points
