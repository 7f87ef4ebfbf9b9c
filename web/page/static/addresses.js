/**
 * Which address may become a link: the rule of PROTOCOL.md (*Parts*) for sources. A user in front
 * of the host (`https://bank@elsewhere`) would let an address look like another one.
 */

const UNSAFE = /[\p{Cc}\p{Cs}]/u;
const WEB = /^https?:\/\/[^/?#@\\\s]+(?:[/?#]|$)/i;

/** Whether a page may link to this address of the web. */
export const isLink = (address) =>
  WEB.test(address) && !UNSAFE.test(address) && URL.canParse(address);
