import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { failpoint } from '../../files/failpoints.ts'
import { explainFull } from '../snapshot-writer.ts'

const FLUSH_BYTES = 1024 * 1024

/** A new file that is written from its beginning to its end: collects without waiting, writes when it is asked to. */
export class AppendFile {
  readonly #path: string
  readonly #handle: FileHandle
  #pending: Buffer[] = []
  #pendingBytes = 0
  /** Of all that was added. */
  size = 0

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  static async create(path: string): Promise<AppendFile> {
    return new AppendFile(path, await explainFull(dirname(path), () => open(path, 'wx', 0o600)))
  }

  /** Takes the bytes as they are: they must not change before they are written. */
  add(bytes: Buffer): void {
    this.#pending.push(bytes)
    this.#pendingBytes += bytes.length
    this.size += bytes.length
  }

  /** Writes what has been collected when it is worth it; `onWrite` sees what is. ServiceError('insufficient_storage'). */
  async flush(atLeast = FLUSH_BYTES, onWrite: (bytes: Buffer) => void = () => {}): Promise<void> {
    if (this.#pendingBytes < atLeast || this.#pendingBytes === 0) return
    const bytes = Buffer.concat(this.#pending)
    this.#pending = []
    this.#pendingBytes = 0
    onWrite(bytes)
    await explainFull(dirname(this.#path), async () => {
      failpoint('dataset.append')
      await this.#handle.writeFile(bytes)
    })
  }

  /** All of it is on the disk when this returns. */
  async finish(): Promise<void> {
    await this.flush(0)
    await explainFull(dirname(this.#path), () => this.#handle.sync())
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}
