"use strict";
(() => {
  document.documentElement.classList.add("js");
  const video = document.querySelector("video");
  const charts = document.getElementById("charts");

  // The page may have been moved without its video.
  if (video) video.addEventListener("error", () => video.closest("section").remove());

  for (const button of document.querySelectorAll(".more")) {
    button.addEventListener("click", () => {
      const row = document.getElementById(button.getAttribute("aria-controls"));
      button.setAttribute("aria-expanded", String(row.classList.toggle("open")));
    });
  }

  function play(time) {
    if (!video || !video.isConnected) return;
    video.currentTime = time;
    video.play().catch(() => {});
  }

  if (!charts) {
    for (const button of document.querySelectorAll(".seek")) {
      button.addEventListener("click", () => play(Number(button.dataset.start)));
    }
    return;
  }

  const data = JSON.parse(document.getElementById("curves").textContent);
  const times = data.time;
  const plots = [...charts.querySelectorAll(".plot")];
  const axis = charts.querySelector(".axis");
  const flags = [...charts.querySelectorAll(".flag")];
  const signalPlot = charts.querySelector('[data-panel="signal"] .plot');
  const zoomIn = document.getElementById("zoom-in");
  const zoomOut = document.getElementById("zoom-out");
  let from = 0, to = data.duration, cursor = null;

  const cursors = plots.map((plot) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", "0");
    line.setAttribute("y2", "1000");
    line.setAttribute("visibility", "hidden");
    plot.append(line);
    return line;
  });

  const clock = (time) => {
    if (time < 60) return `${Number(time.toFixed(to - from < 2 ? 2 : 1))} s`;
    const rest = time % 60, digits = to - from < 20 ? 1 : 0;
    return `${Math.floor(time / 60)}:${rest.toFixed(digits).padStart(digits ? 4 : 2, "0")}`;
  };

  function nearest(time) {
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1; else high = middle;
    }
    return low > 0 && time - times[low - 1] < times[low] - time ? low - 1 : low;
  }

  function readOut(row) {
    for (const panel of charts.querySelectorAll(".panel")) {
      const output = panel.querySelector("output");
      output.replaceChildren();
      const say = (text, kind) => {
        const part = document.createElement("span");
        part.className = kind;
        part.textContent = text;
        output.append(part, "  ");
      };
      if (panel.dataset.panel === "signal") {
        const value = data.signal[row];
        say(`${clock(times[row])}  ${data.phases[data.phase[row]]}  ${value === null ? "–" : value}`, "");
        continue;
      }
      for (const curve of Object.values(data.joints)) {
        if (curve.joint !== panel.dataset.panel || charts.classList.contains(`no-${curve.side}`)) continue;
        const value = curve.deg[row], sigma = curve.sigma[row];
        const name = curve.side === "middle" ? "" : `${curve.side} `;
        say(value === null ? `${name}–` : `${name}${value.toFixed(1)}° ± ${sigma ?? "?"}`, curve.side);
      }
    }
  }

  function moveCursor(time, follow) {
    cursor = Math.min(Math.max(time, 0), data.duration);
    if (follow && (cursor < from || cursor > to)) {
      const width = to - from;
      zoom(cursor - width * .1, cursor + width * .9);
    }
    const x = cursor / data.duration * data.width;
    for (const line of cursors) {
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.setAttribute("visibility", "visible");
    }
    readOut(nearest(cursor));
    for (const button of document.querySelectorAll(".reps .seek")) {
      const inside = cursor >= Number(button.dataset.start) && cursor <= Number(button.dataset.end);
      button.closest("tr").classList.toggle("current", inside);
    }
  }

  function zoom(start, end) {
    const width = Math.min(Math.max(end - start, .5), data.duration);
    from = Math.min(Math.max(start, 0), data.duration - width);
    to = from + width;
    const unit = data.width / data.duration;
    for (const plot of plots) plot.setAttribute("viewBox", `${from * unit} 0 ${width * unit} 1000`);
    const percent = (time) => `${(time - from) / width * 100}%`;
    for (const flag of flags) {
      const start = Number(flag.dataset.start), end = Number(flag.dataset.end);
      flag.style.left = percent(start);
      flag.style.width = `${(end - start) / width * 100}%`;
      flag.hidden = end < from || start > to;
    }
    const steps = [.1, .2, .5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 3600];
    const step = steps.find((one) => width / one <= 10) ?? 3600;
    axis.replaceChildren();
    for (let i = Math.ceil(from / step); i * step < from + .97 * width; i++) {
      const label = document.createElement("span");
      label.style.left = percent(i * step);
      label.textContent = clock(i * step);
      axis.append(label);
    }
    zoomOut.disabled = width >= data.duration;
  }

  const scaleBy = (factor) => {
    const middle = cursor !== null && cursor >= from && cursor <= to ? cursor : (from + to) / 2;
    zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
  };
  zoomIn.addEventListener("click", () => scaleBy(.5));
  zoomOut.addEventListener("click", () => scaleBy(2));

  const timeAt = (event) => {
    const box = signalPlot.getBoundingClientRect();
    return from + (event.clientX - box.left) / box.width * (to - from);
  };
  let drag = null;
  for (const plot of plots) {
    plot.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, from, to, moved: false };
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      if (drag && (drag.moved || Math.abs(event.clientX - drag.x) > 4)) {
        drag.moved = true;
        const shift = (event.clientX - drag.x) / signalPlot.getBoundingClientRect().width * (to - from);
        zoom(drag.from - shift, drag.to - shift);
      }
      moveCursor(timeAt(event), false);
    });
    plot.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) play(timeAt(event));
      drag = null;
    });
    plot.addEventListener("pointercancel", () => { drag = null; });
  }
  charts.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    moveCursor(timeAt(event), false);
    scaleBy(event.deltaY > 0 ? 1.25 : .8);
  }, { passive: false });
  charts.addEventListener("keydown", (event) => {
    const step = (to - from) / (event.shiftKey ? 20 : 200);
    const moves = { ArrowLeft: -step, ArrowRight: step };
    if (event.key in moves) {
      event.preventDefault();
      moveCursor((cursor ?? from) + moves[event.key], true);
    } else if (event.key === "Enter" && event.target === charts) play(cursor ?? 0);
    else if (event.key === "+") scaleBy(.5);
    else if (event.key === "-") scaleBy(2);
  });

  for (const button of document.querySelectorAll(".seek, .flag")) {
    button.addEventListener("click", () => {
      const start = Number(button.dataset.start);
      moveCursor(start, true);
      play(start);
    });
  }
  for (const chip of document.querySelectorAll(".chip[aria-pressed]")) {
    chip.addEventListener("click", () => {
      const on = chip.getAttribute("aria-pressed") !== "true";
      chip.setAttribute("aria-pressed", String(on));
      if (chip.dataset.side) charts.classList.toggle(`no-${chip.dataset.side}`, !on);
      else charts.querySelector(`[data-panel="${chip.dataset.joint}"]`).hidden = !on;
      if (cursor !== null) readOut(nearest(cursor));
    });
  }
  if (video) {
    const follow = () => {
      moveCursor(video.currentTime, true);
      if (!video.paused && !video.ended) requestAnimationFrame(follow);
    };
    video.addEventListener("play", follow);
    video.addEventListener("seeked", () => moveCursor(video.currentTime, true));
  }
})();
