// Legends of charts: pointing at a name, or selecting it, shows its lines alone in the charts of the section.
for (const legend of document.querySelectorAll(".lines")) {
  const area = legend.closest("article, section"), buttons = [...legend.querySelectorAll("button")];
  let pinned = null;
  const show = (line) => {
    for (const group of area.querySelectorAll('g[class^="line-"]')) group.style.opacity = !line || group.classList.contains(line) ? "" : "0.12";
  };
  for (const button of buttons) {
    button.onpointerenter = () => show(button.dataset.line);
    button.onpointerleave = () => show(pinned);
    button.onclick = () => {
      pinned = pinned === button.dataset.line ? null : button.dataset.line;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.line === pinned));
      show(pinned);
    };
  }
}
