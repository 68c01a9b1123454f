// Controls: buttons (`data-do`), settings (`data-set`), and the flicker of layers.

const ACTIONS = {
  in: () => zoom(1.5, panes[0]),
  out: () => zoom(1 / 1.5, panes[0]),
  full: () => moveTo(state.centre, 1 / Math.min(...state.volume.voxel)),
  on: () => step(1),
  back: () => step(-1),
  fit,
  flicker,
};

const SETTINGS = {
  volume: ({ value }) => setVolume(known.volumes.find(({ name }) => name === value)),
  plane: ({ value }) => {
    state.plane = value;
    remakePanes();
  },
  arrangement: ({ value }) => {
    state.arrangement = value;
    if (value === "planes") state.cross = true;
    remakePanes();
  },
  slice: ({ value }) => step(Number(value) - Math.floor(state.centre[normal()])),
  shown: (input) => (state.layers[layerOf(input)].shown = input.checked),
  opacity: (input) => (state.layers[layerOf(input)].opacity = Number(input.value) / 100),
  cross: ({ checked }) => (state.cross = checked),
};

const layerOf = (input) => input.closest("[data-layer]").dataset.layer;

function setVolume(volume) {
  state.volume = volume;
  state.centre = volume.shape.map((n) => Math.floor(n / 2) + 0.5);
  for (const row of root.querySelectorAll("[data-layer]"))
    row.hidden = !volume.layers.some(({ name }) => name === row.dataset.layer);
  makePanes();
  fit();
}

// Other panes at the same place, zoomed in as much as before for their size.
function remakePanes() {
  const width = panes[0].element.clientWidth;
  makePanes();
  moveTo(state.centre, (state.scale * panes[0].element.clientWidth) / width);
}

// The chosen layers above raw in turn; where less motion is wanted, each press shows the next one.
function flicker() {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const running = state.flicker.timer !== null;
  clearInterval(state.flicker.timer);
  state.flicker = { timer: null, phase: still ? (state.flicker.phase ?? -1) + 1 : running ? null : 0 };
  if (!still && !running)
    state.flicker.timer = setInterval(() => {
      state.flicker.phase++;
      schedule();
    }, FLICKER_MS);
  schedule();
}

root.addEventListener("click", ({ target }) => {
  const action = ACTIONS[target.dataset.do];
  if (!action) return;
  action();
  follow();
});
root.addEventListener("input", ({ target }) => {
  SETTINGS[target.dataset.set]?.(target);
  schedule();
  follow();
});
