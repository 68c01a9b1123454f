// Panes: one image, one per layer, or one per plane.

let panes = [];

function makePanes() {
  const { arrangement, plane, volume } = state;
  const wanted = {
    one: () => [{ plane }],
    layers: () => volume.layers.map(({ name }) => ({ plane, layer: name })),
    planes: () => Object.keys(PLANES).map((one) => ({ plane: one })),
  }[arrangement]();
  $(".panes").dataset.arrangement = arrangement;
  $(".panes").style.setProperty("--columns", Math.min(wanted.length, 3));
  panes = wanted.map(makePane);
  $(".panes").replaceChildren(...panes.map((pane) => pane.element));
  schedule();
}

function makePane({ plane, layer }) {
  const element = document.createElement("div");
  const pane = { plane, layer, element, canvas: document.createElement("canvas"), scratch: document.createElement("canvas") };
  const title = document.createElement("span");
  pane.bar = document.createElement("span");
  Object.assign(element, { className: "pane", tabIndex: 0 });
  element.setAttribute("role", "application");
  element.setAttribute("aria-label", `Image of plane ${plane}${layer ? `, ${layer}` : ""}; its keys are listed below`);
  title.className = "title";
  title.textContent = layer ? `${layer} · ${plane}` : plane;
  pane.bar.className = "bar-of-scale";
  element.append(pane.canvas, title, pane.bar);
  listen(pane);
  sizes.observe(element);
  return pane;
}

const sizes = new ResizeObserver(schedule);
