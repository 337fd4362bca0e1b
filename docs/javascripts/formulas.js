// Turns the formulas of a page into MathML, which browsers draw by themselves: nothing is fetched.
// It knows the part of LaTeX that the pages use; a test holds the two together.
(() => {
  const SYMBOLS = {
    mu: "μ", sigma: "σ", Sigma: "Σ", epsilon: "ε", Delta: "Δ", nabla: "∇", partial: "∂", top: "⊤",
    sum: "∑", ge: "≥", le: "≤", sim: "∼", cdot: "⋅", lVert: "‖", rVert: "‖",
  };
  const WORDS = ["max", "min", "cos", "log"];
  const SPACES = { ",": "0.17em", quad: "1em", qquad: "2em" };
  const ACCENTS = { hat: "^", tilde: "~", bar: "‾", overline: "‾" };
  const LETTERS = "μσΣεΔ";

  const tag = (name, content, attributes = "") => `<${name}${attributes}>${content}</${name}>`;
  const row = (parts) => (parts.length === 1 ? parts[0] : tag("mrow", parts.join("")));
  const escaped = (text) => text.replace("&", "&amp;").replace("<", "&lt;");

  function toMathML(source) {
    const tokens = source.match(/\\[A-Za-z]+|\\.|[0-9.]+|\S/g) || [];
    let at = 0;

    function argument() {
      if (tokens[at] !== "{") return atom();
      at += 1;
      const inside = sequence();
      at += 1; // the closing brace
      return row(inside);
    }

    // The letters of \mathrm{…}, as they stand.
    function letters() {
      let text = "";
      for (at += 1; tokens[at] !== "}"; at += 1) text += tokens[at];
      at += 1;
      return text;
    }

    function atom() {
      const token = tokens[at];
      at += 1;
      if (token === "{") {
        at -= 1;
        return argument();
      }
      if (!token.startsWith("\\")) {
        if (/[0-9]/.test(token)) return tag("mn", token);
        if (/[A-Za-z]/.test(token)) return tag("mi", token);
        return tag("mo", token === "-" ? "−" : token === "'" ? "′" : escaped(token));
      }
      const name = token.slice(1);
      if (name in SPACES) return `<mspace width="${SPACES[name]}"></mspace>`;
      if (name in ACCENTS) {
        return tag("mover", argument() + tag("mo", ACCENTS[name]), ' accent="true"');
      }
      if (name === "sqrt") return tag("msqrt", argument());
      if (name === "frac") return tag("mfrac", argument() + argument());
      if (name === "mathrm" || name === "operatorname") {
        return tag("mi", letters(), ' mathvariant="normal"');
      }
      if (["bigl", "bigr", "Bigl", "Bigr"].includes(name)) return atom();
      if (WORDS.includes(name)) return tag("mi", name);
      if (LETTERS.includes(SYMBOLS[name])) return tag("mi", SYMBOLS[name]);
      return tag("mo", SYMBOLS[name] || name);
    }

    // An atom with what stands above and below it.
    function scripted() {
      const isSum = tokens[at] === "\\sum";
      const base = atom();
      let below, above;
      while (tokens[at] === "_" || tokens[at] === "^" || tokens[at] === "'") {
        const sign = tokens[at];
        at += 1;
        if (sign === "_") below = argument();
        else if (sign === "'") above = tag("mo", "′");
        else above = argument();
      }
      if (below && above) return tag("msubsup", base + below + above);
      if (below) return tag(isSum ? "munder" : "msub", base + below);
      if (above) return tag("msup", base + above);
      return base;
    }

    function sequence() {
      const parts = [];
      while (at < tokens.length && tokens[at] !== "}") parts.push(scripted());
      return parts;
    }

    return row(sequence());
  }

  function draw() {
    for (const element of document.querySelectorAll(".arithmatex")) {
      const source = element.textContent.trim().slice(2, -2); // without \( \) or \[ \]
      const display = element.tagName === "DIV" ? "block" : "inline";
      element.innerHTML = tag("math", toMathML(source), ` display="${display}"`);
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", draw);
  else draw();
})();
