"use strict";
(function () {
  const list = document.getElementById("events");
  const state = document.getElementById("state");
  const light = document.getElementById("light");
  const source = new EventSource(list.dataset.source);
  function show(text, on) {
    state.textContent = text;
    light.classList.toggle("on", on);
  }
  source.addEventListener("open", () => show("Connected", true));
  source.addEventListener("error", () =>
    show(source.readyState === EventSource.CLOSED ? "Closed by the server: reload the page to see why" : "Connection lost, trying again…", false));
  source.addEventListener("tick", (event) => {
    const tick = JSON.parse(event.data);
    const line = document.createElement("li");
    for (const text of [tick.time, tick.company + ", " + tick.invoices + " invoices", "#" + tick.n]) {
      const cell = document.createElement("span");
      cell.textContent = text;
      line.append(cell);
    }
    list.prepend(line);
    while (list.children.length > 12) list.lastElementChild.remove();
  });
})();
