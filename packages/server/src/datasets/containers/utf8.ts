import { FileFault } from '../split/fault.ts'

/** Text files that a table reader would misread in silence. */
const UTF16: readonly (readonly number[])[] = [
  [0xff, 0xfe],
  [0xfe, 0xff],
]

/** Hands chunks on after making sure that they are UTF-8. FileFault with the line otherwise. */
export async function* checkedUtf8(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  let line = 1
  let first = true
  for await (const chunk of chunks) {
    if (first && UTF16.some((mark) => mark.every((byte, i) => chunk[i] === byte)))
      throw new FileFault('not_text', 'The file is UTF-16 text: save it as UTF-8')
    first = false
    try {
      decoder.decode(chunk, { stream: true })
    } catch {
      throw new FileFault('invalid_utf8', 'Not valid UTF-8: save the file as UTF-8', line + badLine(chunk))
    }
    line += newlines(chunk)
    yield chunk
  }
  try {
    decoder.decode()
  } catch {
    throw new FileFault('invalid_utf8', 'The file ends inside a character: it was cut off', line)
  }
}

/** Line breaks before the first byte that can't be read. */
function badLine(chunk: Buffer): number {
  const decoder = new TextDecoder('utf-8')
  // A character that began in the chunk before looks broken here, but has no line break before it.
  const text = decoder.decode(chunk.subarray(chunk.findIndex((byte) => (byte & 0xc0) !== 0x80)))
  const at = text.indexOf('\ufffd')
  return at === -1 ? 0 : text.slice(0, at).split('\n').length - 1
}

export function newlines(bytes: Buffer): number {
  let count = 0
  for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, at + 1)) count++
  return count
}
