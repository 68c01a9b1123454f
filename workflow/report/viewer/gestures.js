// Mouse, touch and keys of a pane.

function listen(pane) {
  const { element } = pane;
  const fingers = new Map();
  let turned = 0;
  const middle = () => [...fingers.values()].reduce(([x, y], one) => [x + one.clientX / fingers.size, y + one.clientY / fingers.size], [0, 0]);
  const spread = () => {
    const [one, other] = fingers.values();
    return other ? Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) : 1;
  };
  element.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return showPointer(voxelAt(pane, event));
    const [[x, y], apart] = [middle(), spread()];
    fingers.set(event.pointerId, event);
    const [nowX, nowY] = middle();
    moveBy(pane, x - nowX, y - nowY);
    if (apart > 1) zoom(spread() / apart, pane, ...fromMiddle(pane, { clientX: nowX, clientY: nowY }));
    showPointer(voxelAt(pane, event));
    follow();
  });
  for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, (event) => fingers.delete(event.pointerId));
  element.addEventListener("pointerleave", () => showPointer(null));
  element.addEventListener("dblclick", (event) => {
    moveTo(voxelAt(pane, event), state.scale * 2);
    follow();
  });
  element.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== element) return; // the page scrolls until an image is chosen
    event.preventDefault();
    if (event.ctrlKey) zoom(Math.exp(-event.deltaY / 300), pane, ...fromMiddle(pane, event));
    turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const slices = Math.trunc(turned / 40);
    if (slices) turned = 0;
    if (slices && !event.ctrlKey) step(Math.sign(slices));
    follow();
  }, { passive: false });
  element.addEventListener("keydown", (event) => {
    const act = !event.ctrlKey && !event.metaKey && !event.altKey && keyAction(pane, event.key);
    if (!act) return;
    event.preventDefault();
    act();
    follow();
  });
}

function keyAction(pane, key) {
  const rows = [...root.querySelectorAll("[data-layer]:not([hidden]) [data-set=shown]")];
  return {
    ArrowLeft: () => moveBy(pane, -40, 0),
    ArrowRight: () => moveBy(pane, 40, 0),
    ArrowUp: () => moveBy(pane, 0, -40),
    ArrowDown: () => moveBy(pane, 0, 40),
    ".": () => step(1),
    ",": () => step(-1),
    PageDown: () => step(10),
    PageUp: () => step(-10),
    "+": () => zoom(1.25, pane),
    "=": () => zoom(1.25, pane),
    "-": () => zoom(0.8, pane),
    0: fit,
    f: flicker,
    ...Object.fromEntries(rows.map((row, i) => [i + 1, () => row.click()])),
  }[key];
}
