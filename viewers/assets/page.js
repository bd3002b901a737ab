// Start: read the embedded head, build view and panel, connect the buttons.

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function start() {
  const find = (id) => document.getElementById(id);
  for (const figure of document.querySelectorAll("figure button"))
    figure.addEventListener("click", () => {
      find("zoomed").src = figure.querySelector("img").src;
      find("zoomed").alt = figure.querySelector("img").alt;
      find("zoom").showModal();
    });
  find("zoom").addEventListener("click", () => find("zoom").close());

  const canvas = find("view"), bytes = decodeBase64(find("glb").textContent);
  let viewer, panel;
  try {
    viewer = new HeadViewer(canvas, readGlb(bytes));
    panel = buildPanel(viewer, find("sliders"));
  } catch (error) {
    find("message").textContent = error.message;
    find("message").hidden = false;
    return;
  }
  steer(viewer);
  find("neutral").addEventListener("click", panel.neutral);
  find("fitted").addEventListener("click", panel.asFitted);
  find("random").addEventListener("click", panel.random);
  find("search").addEventListener("input", () => panel.search(find("search").value));
  find("front").addEventListener("click", () => { viewer.frame(); viewer.eye.yaw = viewer.eye.pitch = 0; });
  for (const name of ["texture", "wireframe"])
    find(name).addEventListener("change", () => { viewer.look[name] = find(name).checked; viewer.draw(); });
  if (!viewer.head.parts.some((part) => part.material.textured)) find("texture").parentElement.hidden = true;
  find("picture").addEventListener("click", () => {
    viewer.drawNow(); // the picture must be taken in the same breath as it is drawn
    canvas.toBlob((blob) => save(blob, "view.png"));
  });
  find("download").addEventListener("click", () => save(new Blob([bytes], { type: "model/gltf-binary" }), "head.glb"));
  panel.fromLink(location.hash);
  window.addEventListener("hashchange", () => panel.fromLink(location.hash));
}

start();
