/** What one types is a selector, or a part of a name. */
export function selector(text: string): string {
  const typed = text.trim();
  if (typed === "" || /[=~!(\s]|^@/.test(typed)) return typed;
  return /[*?]/.test(typed) ? `name=${typed}` : `name=*${typed}*`;
}

/** A value as a selector has it. */
export const quoted = (value: string): string => (/^[A-Za-z0-9._/-]+$/.test(value) ? value : `"${value.replace(/[\\"]/g, "\\$&")}"`);
