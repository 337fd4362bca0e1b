// Lays the two pictures of a `.before-after` over each other, with a slider between them.
// Without this script the pictures stand side by side.
(() => {
  function start() {
    for (const figure of document.querySelectorAll(".before-after")) {
      const frame = figure.querySelector("p");
      if (frame.querySelectorAll("img").length !== 2) continue;
      const slider = document.createElement("input");
      slider.type = "range";
      slider.min = 0;
      slider.max = 100;
      slider.value = 50;
      slider.setAttribute("aria-label", "How much of the photograph is shown, in percent");
      const show = () => frame.style.setProperty("--share", `${slider.value}%`);
      slider.addEventListener("input", show);
      frame.append(slider);
      figure.classList.add("live");
      show();
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
