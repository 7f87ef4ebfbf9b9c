/** Events as the tests of tokenwire.js write them. */

/** A piece of the answer `m1`, without a seq: the log that it is appended to gives it one. */
export const piece = (offset, content, more = {}) => ({
  type: "chunk",
  message_id: "m1",
  attempt: 1,
  part: 0,
  offset,
  content,
  ...more,
});

/** The same as it stands in a log. */
export const chunk = (seq, offset, content) => ({ seq, ...piece(offset, content) });
