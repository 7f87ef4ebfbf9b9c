/**
 * Light or dark, as this browser was told here; else as the system says. No module: it runs before
 * anything is drawn, so that nothing flashes.
 */

(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

  function take(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  }

  /** The bars of the browser around the page, and the button. */
  function show() {
    const page = getComputedStyle(document.body).backgroundColor;
    if (root.dataset.theme)
      for (const meta of document.querySelectorAll("meta[name=theme-color]")) meta.content = page;
    document.querySelector("#theme span").textContent = isDark() ? "Light colours" : "Dark colours";
  }

  function change() {
    take(isDark() ? "light" : "dark");
    try {
      localStorage.setItem("tokenwire.theme", JSON.stringify(root.dataset.theme));
    } catch {
      // private windows: until the page is left
    }
    show();
  }

  try {
    take(JSON.parse(localStorage.getItem("tokenwire.theme")));
  } catch {
    // nothing usable was kept
  }
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", change);
    dark.addEventListener("change", show);
    show();
  });
})();
