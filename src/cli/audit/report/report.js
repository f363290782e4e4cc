for (const head of document.querySelectorAll("th")) {
  head.tabIndex = 0;
  const sort = () => {
    const place = head.cellIndex, body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") === "descending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[place].dataset.v ?? row.cells[place].textContent;
    const compare = (a, b) => isNaN(value(a)) || isNaN(value(b))
      ? value(a).localeCompare(value(b)) : value(a) - value(b);
    body.append(...[...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)));
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
