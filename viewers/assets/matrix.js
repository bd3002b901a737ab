// 4x4 matrices (column-major, as WebGL takes them), quaternions (x, y, z, w) and rotation vectors.

function multiply(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++)
    for (let r = 0; r < 4; r++)
      for (let k = 0; k < 4; k++) out[4 * c + r] += a[4 * k + r] * b[4 * c + k];
  return out;
}

function rigid([x, y, z, w], [tx, ty, tz]) {
  return new Float32Array([
    1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w), 0,
    2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w), 0,
    2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y), 0,
    tx, ty, tz, 1,
  ]);
}

function quaternion([x, y, z]) {
  const angle = Math.hypot(x, y, z);
  const s = angle < 1e-9 ? 0.5 : Math.sin(angle / 2) / angle;
  return [x * s, y * s, z * s, Math.cos(angle / 2)];
}

function rotationVector([x, y, z, w]) {
  if (w < 0) [x, y, z, w] = [-x, -y, -z, -w];
  const length = Math.hypot(x, y, z);
  const s = length < 1e-9 ? 2 : (2 * Math.atan2(length, w)) / length;
  return [x * s, y * s, z * s];
}

function perspective(fieldOfView, aspect, near, far) {
  const f = 1 / Math.tan(fieldOfView / 2), out = new Float32Array(16);
  out[0] = f / aspect;
  out[5] = f;
  out[10] = (far + near) / (near - far);
  out[11] = -1;
  out[14] = (2 * far * near) / (near - far);
  return out;
}

// World -> camera for a camera circling `target`: yaw about +Y, then pitch, then back by `distance`.
function orbit(target, yaw, pitch, distance) {
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  const turn = new Float32Array([
    cy, -sp * sy, cp * sy, 0,
    0, cp, sp, 0,
    -sy, -sp * cy, cp * cy, 0,
    0, 0, -distance, 1,
  ]);
  return multiply(turn, rigid([0, 0, 0, 1], target.map((x) => -x)));
}
