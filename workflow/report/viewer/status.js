// What the page says: place, slice, pointer, and the states of all controls.

const inNm = (place) => place.map((voxel, axis) => Math.round(Math.floor(voxel) * state.volume.voxel[axis])).join(", ");
const inVoxels = (place) => place.map((voxel, axis) => `${AXES[axis]} ${Math.floor(voxel)}`).join(", ");

function showState() {
  const axis = normal();
  const slice = Math.floor(state.centre[axis]);
  const failed = [...tiles.values()].some((one) => one.failed);
  root.dataset.drawn = pending.size ? "no" : "yes";
  $("[data-show=axis]").textContent = AXES[axis];
  $("[data-show=slice]").textContent = `${slice} of ${state.volume.shape[axis] - 1}`;
  Object.assign($("[data-set=slice]"), { max: state.volume.shape[axis] - 1, value: slice });
  $("[data-set=volume]").value = state.volume.name;
  $("[data-set=plane]").value = state.plane;
  $("[data-set=arrangement]").value = state.arrangement;
  $("[data-set=cross]").checked = state.cross;
  $("[data-do=flicker]").setAttribute("aria-pressed", state.flicker.phase !== null);
  for (const row of root.querySelectorAll("[data-layer]")) {
    row.querySelector("[data-set=shown]").checked = state.layers[row.dataset.layer].shown;
    row.querySelector("[data-set=opacity]").value = 100 * state.layers[row.dataset.layer].opacity;
  }
  const told = failed
    ? `Some pictures cannot be read: keep the folder “${known.folder}” beside this page.`
    : `Middle: ${inVoxels(state.centre)} (${inNm(state.centre)} nm).`;
  if ($("[data-show=place]").textContent !== told) $("[data-show=place]").textContent = told;
}

function showPointer(place) {
  const inside = place && place.every((at, axis) => at >= 0 && at < state.volume.shape[axis]);
  $("[data-show=pointer]").textContent = inside ? `Pointer: ${inVoxels(place)}.` : "";
}
