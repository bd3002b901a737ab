// The panel beside the view: sliders by region, search, and what the buttons do.

const REGIONS = [
  ["Brows", /^brow/i], ["Eyes", /^eye/i], ["Jaw", /^jaw/i], ["Mouth", /^mouth/i],
  ["Cheeks", /^cheek/i], ["Nose", /^nose/i], ["Tongue", /^tongue/i], ["Expression", /./],
];
// Joints, axis of the rotation vector, label, smallest and largest angle in degrees.
const POSE = [
  ["pose.nod", ["neck"], 0, "Nod", -35, 35],
  ["pose.turn", ["neck"], 1, "Turn", -50, 50],
  ["pose.tilt", ["neck"], 2, "Tilt", -25, 25],
  ["pose.jaw", ["jaw"], 0, "Jaw drop", -5, 25],
  ["pose.jawSide", ["jaw"], 1, "Jaw sideways", -10, 10],
  ["pose.lookDown", ["leftEye", "rightEye"], 0, "Look down", -30, 30],
  ["pose.lookLeft", ["leftEye", "rightEye"], 1, "Look to its left", -40, 40],
];

const spoken = (name) => {
  const sided = name.replace(/_L$/, " left").replace(/_R$/, " right");
  const words = sided.replace(/[_.]+/g, " ").replace(/([a-z])([A-Z0-9])/g, "$1 $2").toLowerCase().trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
};

function buildPanel(viewer, root) {
  const rows = new Map(); // name -> {input, show, set, neutral, low, high}
  const { names, bounds, fitted } = viewer.head.targets;

  function addRow(group, name, label, low, high, unit, get, set) {
    const row = document.createElement("div");
    row.className = "row";
    row.dataset.words = `${name} ${label}`.toLowerCase();
    const caption = document.createElement("label");
    caption.textContent = label;
    caption.title = name;
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 200, id: `slider-${name}` });
    input.name = caption.htmlFor = input.id;
    const output = document.createElement("output");
    output.htmlFor = input.id;
    const show = () => {
      input.value = get();
      output.textContent = unit ? `${Math.round(get())}${unit}` : get().toFixed(2);
      row.classList.toggle("used", Math.abs(get()) > 1e-3);
    };
    input.addEventListener("input", () => { set(Number(input.value)); show(); });
    caption.addEventListener("dblclick", () => { set(0); show(); });
    row.append(caption, input, output);
    group.append(row);
    rows.set(name, { show, set, low, high });
    show();
  }

  function addGroup(title) {
    const group = document.createElement("details");
    const summary = document.createElement("summary");
    group.open = true;
    summary.textContent = title;
    group.append(summary);
    root.append(group);
    return group;
  }

  const left = new Set(names.keys());
  for (const [title, pattern] of REGIONS) {
    const members = [...left].filter((k) => pattern.test(names[k]));
    if (!members.length) continue;
    const group = addGroup(title);
    for (const k of members) {
      left.delete(k);
      const set = (value) => { viewer.weights[k] = value; viewer.changed(); };
      addRow(group, names[k], spoken(names[k]), bounds[k][0], bounds[k][1], "", () => viewer.weights[k], set);
    }
  }
  const jointOf = (name) => viewer.head.joints.findIndex((joint) => joint.name === name);
  const poses = POSE.filter(([, joints]) => joints.every((name) => jointOf(name) >= 0));
  const poseGroup = addGroup("Pose and light");
  for (const [name, joints, axis, label, low, high] of poses) {
    const vectors = joints.map((joint) => viewer.rotations[jointOf(joint)]);
    const get = () => (vectors.reduce((sum, v) => sum + v[axis], 0) / vectors.length) * (180 / Math.PI);
    const set = (degrees) => {
      for (const v of vectors) v[axis] = (degrees * Math.PI) / 180;
      viewer.draw();
    };
    addRow(poseGroup, name, label, low, high, "°", get, set);
  }
  const lightAngle = () => (viewer.look.light * 180) / Math.PI;
  const setLight = (degrees) => { viewer.look.light = (degrees * Math.PI) / 180; viewer.draw(); };
  addRow(poseGroup, "light.turn", "Turn the light", -180, 180, "°", lightAngle, setLight);

  function apply(weights, rotations) {
    viewer.weights.forEach((_, k) => (viewer.weights[k] = weights[k] || 0));
    viewer.rotations.forEach((v, i) => v.splice(0, 3, ...(rotations ? rotations[i] : [0, 0, 0])));
    viewer.changed();
    for (const row of rows.values()) row.show();
  }

  const fittedPose = viewer.head.joints.map((joint, i) =>
    viewer.head.roots.includes(i) ? [0, 0, 0] : rotationVector(joint.fitted));
  return {
    rows,
    neutral: () => apply([]),
    asFitted: () => apply(fitted, fittedPose),
    // A few actions at random; left and right mostly together, as faces do.
    random() {
      const weights = names.map(() => 0), stems = [...new Set(names.map(stemOf))];
      for (let i = 0; i < Math.min(6, stems.length); i++) {
        const stem = stems[Math.floor(Math.random() * stems.length)], strength = Math.random();
        names.forEach((name, k) => {
          if (stemOf(name) !== stem) return;
          const [low, high] = bounds[k], share = strength * (0.75 + 0.25 * Math.random());
          weights[k] = low < 0 ? low + (high - low) * (0.5 + 0.5 * (share - 0.5)) : high * share;
        });
      }
      apply(weights);
    },
    search(text) {
      const words = text.toLowerCase().split(/\s+/).filter(Boolean);
      for (const group of root.children) {
        const members = [...group.querySelectorAll(".row")];
        for (const row of members) row.hidden = !words.every((word) => row.dataset.words.includes(word));
        group.hidden = members.every((row) => row.hidden);
      }
    },
    // "#jawOpen=0.7&pose.turn=20": an expression one can put into a link.
    fromLink(text) {
      for (const [name, value] of new URLSearchParams(text.replace(/^#/, ""))) {
        const row = rows.get(name), number = Number(value);
        if (!row || !Number.isFinite(number)) continue;
        row.set(Math.max(row.low, Math.min(row.high, number)));
        row.show();
      }
    },
  };
}

const stemOf = (name) => name.replace(/(Left|Right|_L|_R)$/, "");
