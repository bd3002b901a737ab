// Drawing a head with WebGL2: morph targets added on the CPU (they are sparse), bones and light on the GPU.

const VERTEX_SHADER = `#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec2 uv;
layout(location = 3) in uvec4 joints;
layout(location = 4) in vec4 weights;
layout(location = 5) in vec4 color;
uniform mat4 bones[16];
uniform mat4 view;
uniform mat4 projection;
uniform float lift;
out vec3 v_position;
out vec3 v_normal;
out vec2 v_uv;
out vec3 v_color;
void main() {
  mat4 bone = weights.x * bones[joints.x] + weights.y * bones[joints.y]
            + weights.z * bones[joints.z] + weights.w * bones[joints.w];
  vec4 seen = view * bone * vec4(position, 1.0);
  v_position = seen.xyz;
  v_normal = mat3(view) * mat3(bone) * normal;
  v_uv = uv;
  v_color = color.rgb;
  gl_Position = projection * vec4(seen.xyz * (1.0 - lift), 1.0); // the wireframe is drawn a little nearer
}`;

// Three lamps that keep their place beside the camera, over a sky above and warm ground below. Linear light.
const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 v_position;
in vec3 v_normal;
in vec2 v_uv;
in vec3 v_color;
uniform sampler2D albedo;
uniform vec3 base_color;
uniform float roughness;
uniform bool textured;
uniform float light_angle;
uniform float flat_color;
out vec4 pixel;
vec3 lamp(vec3 direction, vec3 strength, vec3 n, vec3 eye, vec3 color) {
  float c = cos(light_angle), s = sin(light_angle);
  vec3 l = normalize(vec3(c * direction.x + s * direction.z, direction.y, c * direction.z - s * direction.x));
  float diffuse = max((dot(n, l) + 0.15) / 1.15, 0.0);
  vec3 h = normalize(l + eye);
  float a2 = pow(max(roughness, 0.12), 4.0), nh = max(dot(n, h), 0.0);
  float d = nh * nh * (a2 - 1.0) + 1.0;
  float highlight = 0.04 * a2 / (4.0 * d * d) * max(dot(n, l), 0.0);
  return strength * (color * diffuse + highlight);
}
void main() {
  vec3 color = base_color * v_color;
  if (textured) color *= texture(albedo, v_uv).rgb;
  if (flat_color > 0.0) { pixel = vec4(vec3(flat_color), 1.0); return; }
  vec3 n = normalize(gl_FrontFacing ? v_normal : -v_normal);
  vec3 eye = normalize(-v_position);
  vec3 light = color * mix(vec3(0.30, 0.27, 0.25), vec3(0.52, 0.55, 0.60), n.y * 0.5 + 0.5);
  light += lamp(vec3(-0.5, 0.6, 0.8), vec3(0.78, 0.75, 0.70), n, eye, color);
  light += lamp(vec3(0.9, 0.1, 0.5), vec3(0.16, 0.18, 0.22), n, eye, color);
  light += lamp(vec3(0.3, 0.5, -0.9), vec3(0.30, 0.32, 0.36), n, eye, color);
  vec3 low = light * 12.92, high = 1.055 * pow(max(light, 0.0031308), vec3(1.0 / 2.4)) - 0.055;
  pixel = vec4(mix(high, low, vec3(lessThan(light, vec3(0.0031308)))), 1.0);
}`;

const FIELD_OF_VIEW = (26 * Math.PI) / 180;

class HeadViewer {
  constructor(canvas, head) {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
    if (!gl) throw new Error("This browser offers no WebGL2, which the 3D view needs.");
    Object.assign(this, { canvas, head, gl });
    this.weights = new Float32Array(head.targets.names.length);
    // The head stays upright at its rest place, wherever the photo had it: the camera does the turning.
    const isRoot = (i) => head.roots.includes(i);
    this.rotations = head.joints.map((joint, i) => (isRoot(i) ? [0, 0, 0] : rotationVector(joint.rotation)));
    this.look = { texture: true, wireframe: false, light: 0 };
    this._pending = false;
    this._setUp();
    this.frame();
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this._setUp(); this.changed(); });
  }

  // Look at the head from the front, all of it in the picture.
  frame() {
    const low = [1e9, 1e9, 1e9], high = [-1e9, -1e9, -1e9];
    for (const part of this.head.parts)
      part.positions.forEach((x, i) => {
        low[i % 3] = Math.min(low[i % 3], x);
        high[i % 3] = Math.max(high[i % 3], x);
      });
    const radius = Math.hypot(...low.map((x, i) => high[i] - x)) / 2;
    this.radius = radius;
    this.eye = {
      target: low.map((x, i) => (x + high[i]) / 2),
      yaw: 0.35,
      pitch: 0.05,
      distance: (radius / Math.sin(FIELD_OF_VIEW / 2)) * 0.92,
    };
    this.draw();
  }

  // Expressions have changed: blend anew, then draw.
  changed() {
    this._stale = true;
    this.draw();
  }

  draw() {
    if (this._pending) return;
    this._pending = true;
    this.canvas.dataset.state = "drawing";
    requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this._pending = false;
    const { gl, canvas, uniforms } = this;
    if (gl.isContextLost()) return;
    if (this._stale) this._blend();
    this._stale = false;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const { target, yaw, pitch, distance } = this.eye, aspect = width / height;
    // In a narrow window step back, so that the head, about 0.7 times as wide as high, still fits.
    const far = distance * Math.max(1, 0.7 / aspect);
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix4fv(uniforms.view, false, orbit(target, yaw, pitch, far));
    const nearest = Math.max(far - 2 * this.radius, far * 0.05), farthest = far + 2 * this.radius + 1e-3;
    gl.uniformMatrix4fv(uniforms.projection, false, perspective(FIELD_OF_VIEW, aspect, nearest, farthest));
    gl.uniformMatrix4fv(uniforms.bones, false, this._bones());
    gl.uniform1f(uniforms.light_angle, this.look.light);
    for (const piece of this.pieces) this._drawPiece(piece);
    // For whoever takes pictures of the page: nothing more is to come.
    if (!this._pending && (this.texture || !this.head.image)) canvas.dataset.state = "drawn";
  }

  _drawPiece({ part, array, lines, lineCount }) {
    const { gl, uniforms } = this, { material } = part;
    const textured = this.look.texture && material.textured && this.texture;
    const plain = this.look.texture && !material.textured ? material.color.slice(0, 3) : [0.42, 0.42, 0.44];
    gl.bindVertexArray(array);
    gl.uniform1i(uniforms.textured, textured ? 1 : 0);
    gl.uniform3fv(uniforms.base_color, textured ? material.color.slice(0, 3) : plain);
    gl.uniform1f(uniforms.roughness, material.roughness);
    gl.uniform1f(uniforms.flat_color, 0);
    gl.uniform1f(uniforms.lift, 0);
    if (material.doubleSided) gl.disable(gl.CULL_FACE);
    else gl.enable(gl.CULL_FACE);
    const type = part.indices instanceof Uint32Array ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT;
    gl.drawElements(gl.TRIANGLES, part.indices.length, type, 0);
    if (!this.look.wireframe) return;
    gl.uniform1f(uniforms.flat_color, 0.12);
    gl.uniform1f(uniforms.lift, 0.002);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, lines());
    gl.drawElements(gl.LINES, lineCount(), gl.UNSIGNED_INT, 0);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.indexBuffer);
  }

  // Rest pose -> posed, per joint, as in glTF: world matrix of the joint times its inverse bind matrix.
  _bones() {
    const { joints, roots } = this.head, out = new Float32Array(16 * joints.length);
    const visit = (i, parent) => {
      const { translation, inverseBind } = joints[i];
      const place = parent ? translation : Array.from(inverseBind.subarray(12, 15), (x) => -x);
      const local = rigid(quaternion(this.rotations[i]), place);
      const world = parent ? multiply(parent, local) : local;
      out.set(multiply(world, inverseBind), 16 * i);
      for (const child of joints[i].children) visit(child, world);
    };
    for (const root of roots) visit(root, null);
    return out;
  }

  _blend() {
    const { gl } = this;
    for (const { part, moved, turned, positionBuffer, normalBuffer } of this.pieces) {
      moved.set(part.positions);
      turned.set(part.normals);
      this.weights.forEach((weight, k) => {
        if (weight === 0) return;
        addScaled(moved, part.targets[k].positions, weight);
        addScaled(turned, part.targets[k].normals, weight);
      });
      gl.bindBuffer(gl.ARRAY_BUFFER, positionBuffer);
      gl.bufferSubData(gl.ARRAY_BUFFER, 0, moved);
      gl.bindBuffer(gl.ARRAY_BUFFER, normalBuffer);
      gl.bufferSubData(gl.ARRAY_BUFFER, 0, turned);
    }
  }

  _setUp() {
    const { gl } = this, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.uniforms = {};
    const names = "bones view projection lift textured base_color roughness flat_color light_angle";
    for (const name of names.split(" ")) this.uniforms[name] = gl.getUniformLocation(program, name);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    this.pieces = this.head.parts.map((part) => this._upload(part));
    this._loadTexture();
    this._stale = true;
  }

  _upload(part) {
    const { gl } = this, array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const attribute = (location, data, size, type, { usage = gl.STATIC_DRAW, normalized = false } = {}) => {
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, data, usage);
      gl.enableVertexAttribArray(location);
      if (location === 3) gl.vertexAttribIPointer(location, size, type, 0, 0);
      else gl.vertexAttribPointer(location, size, type, normalized, 0, 0);
      return buffer;
    };
    const moved = part.positions.slice(), turned = part.normals.slice();
    const positionBuffer = attribute(0, moved, 3, gl.FLOAT, { usage: gl.DYNAMIC_DRAW });
    const normalBuffer = attribute(1, turned, 3, gl.FLOAT, { usage: gl.DYNAMIC_DRAW });
    if (part.uvs) attribute(2, part.uvs, 2, gl.FLOAT);
    attribute(3, part.joints, 4, gl.UNSIGNED_BYTE);
    attribute(4, part.weights, 4, gl.FLOAT);
    if (part.colors) attribute(5, part.colors, 4, gl.UNSIGNED_SHORT, { normalized: true });
    else gl.vertexAttrib4f(5, 1, 1, 1, 1);
    part.indexBuffer = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.indexBuffer);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, part.indices, gl.STATIC_DRAW);
    let buffer = null, count = 0;
    const lines = () => {
      if (buffer) return buffer;
      const edges = edgesOf(part.indices);
      buffer = gl.createBuffer();
      count = edges.length;
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, edges, gl.STATIC_DRAW);
      return buffer;
    };
    return { part, array, moved, turned, positionBuffer, normalBuffer, lines, lineCount: () => count };
  }

  async _loadTexture() {
    this.texture = null;
    if (!this.head.image) return;
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    const picture = await createImageBitmap(this.head.image, options), { gl } = this;
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.SRGB8_ALPHA8, gl.RGBA, gl.UNSIGNED_BYTE, picture);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    const sharper = gl.getExtension("EXT_texture_filter_anisotropic");
    if (sharper) gl.texParameterf(gl.TEXTURE_2D, sharper.TEXTURE_MAX_ANISOTROPY_EXT, 8);
    this.draw();
  }
}

function addScaled(out, { rows, values }, weight) {
  if (!rows) for (let i = 0; i < values.length; i++) out[i] += weight * values[i];
  else
    for (let i = 0; i < rows.length; i++)
      for (let c = 0; c < 3; c++) out[3 * rows[i] + c] += weight * values[3 * i + c];
}

// Each edge of the triangles once.
function edgesOf(indices) {
  const seen = new Set(), out = [];
  for (let i = 0; i < indices.length; i++) {
    const a = indices[i], b = indices[i % 3 === 2 ? i - 2 : i + 1];
    const key = a < b ? a * 4294967296 + b : b * 4294967296 + a;
    if (!seen.has(key)) { seen.add(key); out.push(a, b); }
  }
  return new Uint32Array(out);
}

// Mouse, fingers and keys turn, shift and zoom the view.
function steer(viewer) {
  const { canvas } = viewer, pointers = new Map();
  const turn = (dx, dy) => {
    viewer.eye.yaw -= dx;
    viewer.eye.pitch = Math.max(-1.5, Math.min(1.5, viewer.eye.pitch + dy));
    viewer.draw();
  };
  const zoom = (factor) => {
    viewer.eye.distance = Math.max(viewer.radius * 0.8, Math.min(viewer.radius * 20, viewer.eye.distance * factor));
    viewer.draw();
  };
  const shift = (dx, dy) => {
    const { yaw, pitch, distance, target } = viewer.eye;
    const scale = (2 * distance * Math.tan(FIELD_OF_VIEW / 2)) / canvas.clientHeight;
    const right = [Math.cos(yaw), 0, -Math.sin(yaw)];
    const up = [-Math.sin(pitch) * Math.sin(yaw), Math.cos(pitch), -Math.sin(pitch) * Math.cos(yaw)];
    viewer.eye.target = target.map((x, i) => x + scale * (up[i] * dy - right[i] * dx));
    viewer.draw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY], dx = now[0] - before[0], dy = now[1] - before[1];
    pointers.set(event.pointerId, now);
    if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) + 1;
      zoom(apart(before) / apart(now));
      shift(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons === 2 || event.buttons === 4) shift(dx, dy);
    else turn(dx * 0.008, dy * 0.008);
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => viewer.frame());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY * (event.deltaMode ? 20 : 1))) * 0.003));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const actions = {
      ArrowLeft: () => turn(0.12, 0), ArrowRight: () => turn(-0.12, 0),
      ArrowUp: () => turn(0, 0.12), ArrowDown: () => turn(0, -0.12),
      "+": () => zoom(0.9), "=": () => zoom(0.9), "-": () => zoom(1.1), Home: () => viewer.frame(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
}
