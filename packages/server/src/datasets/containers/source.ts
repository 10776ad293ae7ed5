import fs from 'node:fs'
import { promisify } from 'node:util'
import { FileFault } from '../split/fault.ts'

const read = promisify(fs.read)
const stat = promisify((fd: number, done: (error: Error | null, stats: fs.BigIntStats) => void) =>
  fs.fstat(fd, { bigint: true }, done),
)

/** An open file by its descriptor, which every thread of the process may read. Whoever opened it closes it. */
export class Source {
  readonly fd: number
  /** As the client named it; only its endings count. */
  readonly name: string
  readonly size: number
  readonly #changed: string

  private constructor(fd: number, name: string, stats: fs.BigIntStats) {
    this.fd = fd
    this.name = name
    this.size = Number(stats.size)
    this.#changed = stamp(stats)
  }

  static async of(fd: number, name: string): Promise<Source> {
    return new Source(fd, name, await stat(fd))
  }

  /** The bytes from `start` to `end`, in memory of their own. FileFault when the file has become shorter. */
  async slice(start: number, end = this.size): Promise<Buffer<ArrayBuffer>> {
    if (!(start >= 0 && start <= end)) throw new RangeError(`bytes ${start} to ${end}`)
    const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(end, this.size) - start))
    let filled = 0
    while (filled < bytes.length) {
      const { bytesRead } = await read(this.fd, bytes, filled, bytes.length - filled, start + filled)
      if (bytesRead === 0) throw changed()
      filled += bytesRead
    }
    return bytes
  }

  /** From the beginning to the end that the file had when it was opened. */
  async *chunks(chunkBytes = 1024 * 1024): AsyncGenerator<Buffer> {
    for (let at = 0; at < this.size; at += chunkBytes) yield await this.slice(at, at + chunkBytes)
    await this.checkUnchanged()
  }

  /** The same in one piece of memory: each chunk is good until the next is asked for. */
  async *chunksInPlace(): AsyncGenerator<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(1024 * 1024)
    for (let at = 0; at < this.size; ) {
      const { bytesRead } = await read(this.fd, buffer, 0, Math.min(buffer.length, this.size - at), at)
      if (bytesRead === 0) throw changed()
      at += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
    await this.checkUnchanged()
  }

  /** FileFault when somebody wrote to the file since it was opened. */
  async checkUnchanged(): Promise<void> {
    if (stamp(await stat(this.fd)) !== this.#changed) throw changed()
  }
}

const stamp = ({ size, mtimeNs }: fs.BigIntStats) => `${size} ${mtimeNs}`

const changed = () =>
  new FileFault('file_changed', 'The file changed while it was read: try again when nothing writes to it')
