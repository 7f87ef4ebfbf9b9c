// How JavaScript, HTML and CSS are laid out here. `make check` asks for it, `make format` writes
// it. White space in HTML may move: what stands in a row on the page is in a flex box or a grid.
export default { printWidth: 100, htmlWhitespaceSensitivity: "ignore" };
