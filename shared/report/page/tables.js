// Tables with a row per class: headings sort, and a field filters.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const own = (cell) => (cell.firstElementChild?.matches("i") ? cell.childNodes[1] : cell.firstChild)?.textContent.trim() ?? "";
  const number = (text) => parseFloat(text.replace("−", "-"));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const texts = new Map(rows.map((row) => [row, own(row.cells[column])]));
      const numeric = column > 0 && table.classList.contains("numeric");
      const ascending = head.ariaSort ? head.ariaSort !== "ascending" : !numeric; // numbers: the largest first
      const compare = (a, b) => {
        if (!numeric) return (ascending ? 1 : -1) * texts.get(a).localeCompare(texts.get(b), undefined, { numeric: true });
        const [x, y] = [number(texts.get(a)), number(texts.get(b))];
        return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : (ascending ? 1 : -1) * (x - y); // no figure: last
      };
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      body.append(...rows.sort(compare));
    };
  });
  if (rows.length <= 8) continue;
  const filter = document.createElement("div"), input = document.createElement("input"), count = document.createElement("span");
  filter.className = "filter";
  input.type = "search";
  input.placeholder = "filter classes";
  input.setAttribute("aria-label", "Filter classes");
  count.setAttribute("aria-live", "polite");
  filter.append(input, count);
  table.parentElement.before(filter);
  input.oninput = () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !own(row.cells[0]).toLowerCase().includes(wanted);
    count.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  };
}
