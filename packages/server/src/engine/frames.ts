/** Frames as they come: bounded lines, checked against the contract. */
import { FRAMES, type Frame, type FrameType, PROTOCOL_VERSION } from '@mlx-training/contract'
import { Compile } from 'typebox/compile'

/** A frame of training is some hundred bytes; the longest is `done` with a whole answer. */
export const MAX_FRAME_BYTES = 1 << 20

/** The engine broke the protocol; it can't be trusted to go on. */
export class ProtocolError extends Error {}

/** Whole lines without their end; a last one that a dying process cut off is left out. ProtocolError when one is longer
 *  than `limit` bytes. */
export async function* lines(chunks: AsyncIterable<Buffer>, limit = MAX_FRAME_BYTES): AsyncGenerator<string> {
  let parts: Buffer[] = []
  let length = 0
  for await (let chunk of chunks) {
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a)) {
      if (length + end > limit) throw tooLong(limit)
      yield Buffer.concat([...parts, chunk.subarray(0, end)]).toString('utf8')
      parts = []
      length = 0
      chunk = chunk.subarray(end + 1)
    }
    parts.push(chunk)
    length += chunk.length
    if (length > limit) throw tooLong(limit)
  }
}

const tooLong = (limit: number) => new ProtocolError(`a frame is longer than ${limit} bytes`)

const validators = new Map(Object.entries(FRAMES).map(([type, schema]) => [type, Compile(schema)]))

/** ProtocolError when the line is no frame of this protocol. */
export function parseFrame(line: string): Frame {
  const value = parseJson(line)
  const type = typeof value === 'object' && value !== null && 'type' in value ? String(value.type) : ''
  const validator = validators.get(type)
  if (!validator) throw new ProtocolError(`not a frame: ${shown(line)}`)
  if (!validator.Check(value)) {
    const [first] = validator.Errors(value)
    const where = first?.instancePath.slice(1).replaceAll('/', '.')
    throw new ProtocolError(
      `a bad ${type as FrameType} frame: ${where ? `${where} ` : ''}${first?.message}: ${shown(line)}`,
    )
  }
  const frame = value as Frame
  if (frame.type === 'hello' && frame.protocol !== PROTOCOL_VERSION)
    throw new ProtocolError(
      `it speaks protocol ${frame.protocol} and this server ${PROTOCOL_VERSION}. Run "npm run setup" to bring both to one version`,
    )
  return frame
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

const shown = (line: string) => JSON.stringify(line.length > 200 ? `${line.slice(0, 200)}…` : line)
