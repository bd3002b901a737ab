"""One rasterisation per batch: heads with hair, glasses and shoulders, shaded by spherical harmonics."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.models.head_model import HeadModel
from ...geometry.raster import antialias, interpolate, rasterize, sample_texture, shade_sh, vertex_normals
from ...geometry.texture.albedo_model import AlbedoModel
from ...geometry.texture.default_albedo import face_parts
from .batch import SyntheticMaps
from .extras import HairField, draw_extras, extra_faces
from .people import Person
from .scene import Scene


class HeadRenderer:
    """What of a head model is the same in all pictures."""

    def __init__(self, model: HeadModel, albedo: AlbedoModel):
        parts = face_parts(model)
        self.model, self.albedo = model, albedo
        self.hair = HairField.of(model, parts["skin"])
        self.beard = parts["beard"]
        self.faces = torch.cat([model.faces.int(), extra_faces() + len(model.template)])
        assert model.uvs is not None and model.uv_faces is not None
        self.uvs = model.uvs[None].float()
        self.uv_faces = torch.cat([model.uv_faces.int(), torch.zeros_like(extra_faces())])

    def draw(
        self,
        codes: HeadCode,
        vertices: Float[Tensor, "batch verts 3"],
        camera: Camera,
        people: Sequence[Person],
        scenes: Sequence[Scene],
        backdrop: Float[Tensor, "batch height width 3"],
        want_maps: bool,
    ) -> tuple[Float[Tensor, "batch height width 3"], SyntheticMaps | None]:
        """Pictures without camera faults, and the truth per pixel where it is wanted.

        Args:
            codes: with albedo and light.
            vertices: the model's, for these codes.
            camera: batched.
            people: who, for hair, beard and glasses.
            scenes: for gloss, clothes and hair strands.
            backdrop: what lies behind.
            want_maps: make the maps, too.
        """
        model, count = self.model, len(people)
        assert codes.albedo is not None and codes.light is not None

        def gather(values: list) -> Tensor:
            return torch.from_numpy(np.stack([np.asarray(v, np.float32) for v in values]))

        eyes, bridge = self._anchors(codes)
        extras = draw_extras(people, np.stack([s.clothes for s in scenes]), eyes, bridge)
        rotation, offset = model.transforms(codes)
        skull = 1 if len(model.parents) > 1 else 0
        posed = extras.vertices @ rotation[:, skull].mT + offset[:, skull, None]
        whole = torch.cat([vertices, posed], 1)
        normals = vertex_normals(whole, self.faces)
        heads = len(model.template)
        hair = self.hair.mask(gather([p.hairline for p in people]))
        thickness = gather([p.hair_thickness for p in people])[:, None] * hair
        whole[:, :heads] += (thickness * (0.7 + 0.3 * hair))[..., None] * normals[:, :heads]

        raster = rasterize(camera.to_homogeneous(whole), self.faces, camera.size)
        none = torch.zeros(count, posed.shape[1])
        beard = gather([p.beard for p in people])[:, None] * self.beard
        rest = torch.cat([model.template.expand(count, -1, -1), extras.vertices], 1)
        own = torch.cat([torch.zeros(count, heads), torch.ones_like(none)], 1)
        paint = torch.cat([torch.zeros(count, heads, 3), extras.colours], 1)
        marks = torch.stack([torch.cat([hair, none], 1), torch.cat([beard, none], 1), own], -1)
        seen = interpolate(raster, torch.cat([normals, paint, rest, marks], -1), self.faces)
        normal, paint, place = (normalize(seen[..., :3], dim=-1), seen[..., 3:6], seen[..., 6:9])
        hair, beard, own = seen[..., 9:].split(1, -1)

        uv = interpolate(raster, self.uvs, self.uv_faces)
        skin = sample_texture(self.albedo.texture(codes.albedo).clamp(0, 1), uv)
        waves = gather([s.strands for s in scenes])
        strands = torch.sin(place.flatten(1, 2) @ waves[:, :, :3].mT + waves[:, None, :, 3])
        strands = (1 + 0.13 * strands.sum(-1)).unflatten(1, camera.size)[..., None]
        tint = gather([p.hair_colour for p in people])[:, None, None]
        cover = torch.maximum(((hair - 0.3) / 0.4).clamp(0, 1), 0.85 * beard * (strands * 0.8).clamp(0.3, 1))
        colour = torch.lerp(torch.lerp(skin, tint * strands, cover), paint * (0.8 + 0.2 * strands), own)

        facing = normal * torch.where(normal[..., 2:] < 0, -1.0, 1.0) * own + normal * (1 - own)
        shade = shade_sh(facing, codes.light[:, None, None]).clamp(min=0.02)
        half = gather([s.key + np.array([0, 0, 1]) for s in scenes])
        shine = (facing * normalize(half, dim=-1)[:, None, None]).sum(-1, keepdim=True).clamp(min=0) ** 16
        gloss = gather([s.gloss for s in scenes])[:, None, None, None] * (1 - own) * (1 - 0.5 * hair)
        lit = (colour * shade + gloss * shine).clamp(0, 1)

        covered = raster.mask[..., None]
        picture = torch.where(covered, lit, backdrop)
        picture = antialias(picture, raster, camera.to_homogeneous(whole), self.faces)
        if not want_maps:
            return picture, None
        bare = rasterize(camera.to_homogeneous(vertices), model.faces, camera.size)
        own_normal = interpolate(bare, vertex_normals(vertices, model.faces), model.faces)
        assert model.uvs is not None and model.uv_faces is not None
        uv = interpolate(bare, model.uvs[None], model.uv_faces)
        mask = bare.mask.float()
        albedo = sample_texture(self.albedo.texture(codes.albedo).clamp(0, 1), uv) * mask[..., None]
        return picture, SyntheticMaps(
            mask * (raster.face < len(model.faces)),
            normalize(own_normal, dim=-1).movedim(-1, 1),
            albedo.movedim(-1, 1),
            bare.depth,
            raster.depth,
        )

    def _anchors(self, codes: HeadCode) -> tuple[np.ndarray, np.ndarray]:
        """Eye centres (batch, 2, 3) and nose bridges (batch, 3) of the unposed heads."""
        model = self.model
        joints = model.joints(codes.shape, codes.expression)
        eyes = [joints[:, model.joint_names.index(name)] for name in ("left_eye", "right_eye")]
        which, point = ("478", 168) if "478" in model.landmarks else ("68", 27)
        embedding = model.landmarks[which]
        corner = model.faces[embedding.faces[point]].long()
        bases = model.template[corner] + torch.einsum("vcs,bs->bvc", model.shape_basis[corner], codes.shape)
        bridge = (bases * embedding.weights[point][:, None]).sum(1)
        return torch.stack(eyes, 1).double().numpy(), bridge.double().numpy()
