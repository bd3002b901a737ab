// Reading a binary glTF: the parts of the format that headlab writes, sparse accessors included.

const ARRAYS = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };
const SIZES = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16 };

function decodeBase64(text) {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// {parts, joints, roots, targets: {names, bounds, fitted}, image}; see the fields below.
function readGlb(bytes) {
  const header = new DataView(bytes.buffer, bytes.byteOffset);
  if (header.getUint32(0, true) !== 0x46546c67) throw new Error("not a GLB file");
  const jsonLength = header.getUint32(12, true);
  const gltf = JSON.parse(new TextDecoder().decode(bytes.subarray(20, 20 + jsonLength)));
  const blob = bytes.subarray(28 + jsonLength);

  function slice(view, offset, type, count) {
    const start = (gltf.bufferViews[view].byteOffset || 0) + (offset || 0);
    return new type(blob.slice(start, start + count * type.BYTES_PER_ELEMENT).buffer);
  }
  function dense(index) {
    if (index == null) return null;
    const a = gltf.accessors[index];
    return slice(a.bufferView, a.byteOffset, ARRAYS[a.componentType], a.count * SIZES[a.type]);
  }
  // Displacements: values of some rows, or of all where rows is null.
  function displacement(index) {
    const a = gltf.accessors[index];
    if (!a.sparse) return { rows: null, values: dense(index) };
    const { count, indices, values } = a.sparse;
    return {
      rows: slice(indices.bufferView, indices.byteOffset, ARRAYS[indices.componentType], count),
      values: slice(values.bufferView, values.byteOffset, Float32Array, count * 3),
    };
  }
  function material(index) {
    const m = gltf.materials[index];
    const surface = m.pbrMetallicRoughness || {};
    return {
      name: m.name,
      color: surface.baseColorFactor || [1, 1, 1, 1],
      roughness: surface.roughnessFactor ?? 1,
      textured: !!surface.baseColorTexture,
      doubleSided: !!m.doubleSided,
    };
  }

  const mesh = gltf.meshes[0], extras = mesh.extras || {}, skin = gltf.skins[0];
  const names = extras.targetNames || [];
  const parts = mesh.primitives.map((p) => ({
    positions: dense(p.attributes.POSITION),
    normals: dense(p.attributes.NORMAL),
    uvs: dense(p.attributes.TEXCOORD_0),
    colors: dense(p.attributes.COLOR_0),
    joints: dense(p.attributes.JOINTS_0),
    weights: dense(p.attributes.WEIGHTS_0),
    indices: dense(p.indices),
    material: material(p.material),
    targets: (p.targets || []).map((t) => ({
      positions: displacement(t.POSITION),
      normals: displacement(t.NORMAL),
    })),
  }));
  const binds = dense(skin.inverseBindMatrices);
  const joints = skin.joints.map((node, i) => {
    const { name, translation, rotation, children, extras } = gltf.nodes[node];
    return {
      name,
      translation: translation || [0, 0, 0],
      rotation: rotation || [0, 0, 0, 1],
      fitted: (extras && extras.fittedRotation) || rotation || [0, 0, 0, 1],
      children: (children || []).map((child) => skin.joints.indexOf(child)),
      inverseBind: binds.subarray(16 * i, 16 * i + 16),
    };
  });
  const isChild = new Set(joints.flatMap((joint) => joint.children));
  let image = null;
  if (gltf.images) {
    const view = gltf.bufferViews[gltf.images[0].bufferView];
    const start = view.byteOffset || 0;
    image = new Blob([blob.slice(start, start + view.byteLength)], { type: gltf.images[0].mimeType });
  }
  // ARKit's actions run from 0 to 1; other models count in standard deviations.
  const isAction = /^(brow|eye|jaw|mouth|cheek|nose|tongue)[A-Z]/;
  return {
    parts,
    joints,
    roots: joints.map((_, i) => i).filter((i) => !isChild.has(i)),
    targets: {
      names,
      bounds: extras.targetBounds || names.map((name) => (isAction.test(name) ? [0, 1] : [-3, 3])),
      fitted: extras.fittedWeights || mesh.weights || [],
    },
    image,
  };
}
