// Links: #volume=NAME&z=12&y=340&x=200, in voxels; the address of the page follows the place.

function open(hash) {
  const asked = new URLSearchParams(hash.slice(1));
  const volume = known.volumes.find(({ name }) => name === asked.get("volume"));
  if (!volume) return false;
  state.plane = asked.get("plane") in PLANES ? asked.get("plane") : "xy";
  setVolume(volume);
  const numbers = AXES.map((name) => parseFloat(asked.get(name)));
  if (numbers.some(Number.isFinite)) {
    state.cross = true;
    const close = Math.min(...panes.map(({ element }) => element.clientWidth)) / 400 / Math.min(...volume.voxel);
    moveTo(numbers.map((at, axis) => (Number.isFinite(at) ? Math.floor(at) + 0.5 : state.centre[axis])), Math.max(close, fitScale()));
  }
  root.scrollIntoView({ block: "start" });
  return true;
}

let following;
function follow() {
  clearTimeout(following);
  following = setTimeout(() => {
    const place = state.centre.map((at, axis) => `&${AXES[axis]}=${Math.floor(at)}`).join("");
    const plane = state.plane === "xy" ? "" : `&plane=${state.plane}`;
    history.replaceState(null, "", `#volume=${encodeURIComponent(state.volume.name)}${place}${plane}`);
  }, 300);
}

window.addEventListener("hashchange", () => open(location.hash));
document.addEventListener("click", ({ target }) => {
  const link = target.closest?.('a[href^="#volume="]'); // a second click on the same link changes no address
  if (link && link.getAttribute("href") === location.hash) open(location.hash);
});

// The viewer begins at the position that the address names, or in the middle of the first volume.
root.hidden = false;
setVolume(state.volume);
open(location.hash);
