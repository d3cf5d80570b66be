/** Vectors of states, two endpoints a byte, and what changes of them. `tests/fixtures/states.json` has examples. */

export function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** A state for each endpoint. */
export function unpack(bytes: Uint8Array, count: number): Uint8Array {
  if (bytes.length !== Math.ceil(count / 2)) throw new Error(`${count} states are ${Math.ceil(count / 2)} bytes, not ${bytes.length}`);
  const codes = new Uint8Array(count);
  for (let place = 0; place < count; place++) {
    const byte = bytes[place >> 1];
    codes[place] = place & 1 ? byte & 15 : byte >> 4;
  }
  return codes;
}

/** The states after changes; those before stay as they are. */
export function changed(before: Uint8Array, bytes: Uint8Array): Uint8Array {
  const after = before.slice();
  let place = -1;
  for (let at = 0; at < bytes.length; ) {
    let number = 0;
    for (let digit = 0; ; digit++) {
      if (at >= bytes.length) throw new Error("the changes end in the middle of a number");
      if (digit > 4) throw new Error("a number of the changes is too long");
      const byte = bytes[at++];
      // Not with bits, which are 32 here.
      number += (byte & 127) * 128 ** digit;
      if (byte < 128) break;
    }
    place += Math.floor(number / 16) + 1;
    if (place >= after.length) throw new Error(`place ${place} is changed; the vector has ${after.length}`);
    after[place] = number % 16;
  }
  return after;
}
