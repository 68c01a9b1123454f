// State: what is shown, and where. The other parts read it, and change it as they are told to.
//
// Positions are voxels (z, y, x), with 0.5 added for the middle of a voxel. A scale is CSS px per nm.
// A tile is a brick of one layer, its sections one below the other, so that all three planes are drawn from it.

const known = JSON.parse(document.getElementById("viewer-data").textContent);
const root = document.querySelector("#viewer .viewer");
const $ = (selector) => root.querySelector(selector);
const PLANES = { xy: { h: 2, v: 1, n: 0 }, xz: { h: 2, v: 0, n: 1 }, yz: { h: 0, v: 1, n: 2 } };
const AXES = ["z", "y", "x"];
const [MAX_TILES_OF_A_LAYER, KEPT_TILES, FLICKER_MS, LARGEST_VOXEL_PX] = [64, 160, 700, 64];

const state = {
  volume: known.volumes[0],
  centre: [0, 0, 0],
  scale: 1,
  plane: "xy",
  arrangement: "one",
  cross: false,
  layers: {}, // name -> {shown, opacity}
  flicker: { timer: null, phase: null },
};
for (const volume of known.volumes)
  for (const { name, shown, opacity } of volume.layers) state.layers[name] ??= { shown, opacity };
