"use strict";
// What a mark of a chart says, beside it: under the mouse, and with the arrow keys when the chart has the focus.
(() => {
  for (const figure of document.querySelectorAll("figure.chart")) {
    const svg = figure.querySelector("svg"), marks = [...svg.querySelectorAll(".mark")];
    const tip = document.createElement("output");
    let at = -1;
    const say = (mark) => {
      svg.querySelector(".mark.on")?.classList.remove("on");
      tip.hidden = !mark;
      if (!mark) return;
      mark.classList.add("on");
      tip.textContent = mark.dataset.says;
      const box = mark.lastElementChild.getBoundingClientRect(), frame = figure.getBoundingClientRect();
      const left = Math.min(box.left - frame.left + 10, frame.width - tip.offsetWidth - 4);
      tip.style.left = Math.max(4, left) + "px";
      tip.style.top = Math.max(0, box.top - frame.top - tip.offsetHeight - 6) + "px";
    };
    for (const mark of marks) {
      const title = mark.querySelector("title");
      mark.dataset.says = title.textContent;
      title.remove(); // the browser's own tip would come on top of ours
    }
    tip.className = "tip";
    tip.hidden = true;
    figure.append(tip);
    svg.addEventListener("pointermove", (event) => {
      const away = (mark) => {
        const box = mark.lastElementChild.getBoundingClientRect();
        return Math.hypot(event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
      };
      const near = marks.reduce((best, mark) => (best && away(best) <= away(mark) ? best : mark), null);
      say(near && away(near) < 18 ? near : null);
    });
    svg.addEventListener("pointerleave", () => say(null));
    svg.addEventListener("blur", () => say(null));
    svg.tabIndex = 0;
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") say(null);
      if (!step || event.ctrlKey || event.altKey || event.metaKey || !marks.length) return;
      event.preventDefault();
      at = at < 0 && step < 0 ? marks.length - 1 : (at + step + marks.length) % marks.length;
      say(marks[at]);
    });
  }
})();
