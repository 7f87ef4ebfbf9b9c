// How JavaScript is laid out here. `make check` asks for it, `make format` writes it.
export default { printWidth: 100 };
