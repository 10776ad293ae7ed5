import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { AppendFile } from './append-file.ts'
import type { Received } from './port.ts'
import { FILES, type Shelf } from './shelf.ts'

/** Writes rows as a new file of JSON Lines, as if it had been uploaded. */
export class RowWriter {
  readonly #shelf: Shelf
  readonly #folder: string
  readonly #file: AppendFile
  readonly #hash = createHash('sha256')
  rows = 0

  private constructor(shelf: Shelf, folder: string, file: AppendFile) {
    this.#shelf = shelf
    this.#folder = folder
    this.#file = file
  }

  static async create(shelf: Shelf): Promise<RowWriter> {
    const folder = await shelf.temporary()
    return new RowWriter(shelf, folder, await AppendFile.create(join(folder, FILES.data)))
  }

  /** A row of JSON. One that stood in an array may have line breaks between its tokens. */
  add(row: Buffer): void {
    const line = Buffer.allocUnsafe(row.length + 1)
    row.copy(line)
    for (let at = 0; at < row.length; at++) if (line[at] === 0x0a || line[at] === 0x0d) line[at] = 0x20
    line[row.length] = 0x0a
    this.#hash.update(line)
    this.#file.add(line)
    this.rows++
  }

  async flush(): Promise<void> {
    await this.#file.flush()
  }

  /** Whoever gets it takes care of its folder. */
  async finish(): Promise<Received> {
    await this.#file.finish()
    await this.#file.close()
    return { folder: this.#folder, sha256: this.#hash.digest('hex'), bytes: this.#file.size }
  }

  /** Instead of finish, or after it failed. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => {})
    await this.#shelf.remove(this.#folder)
  }
}

/** Makes writers for `work`, which finishes them; when it fails nothing is left of them. */
export async function withWriters<T>(
  shelf: Shelf,
  count: number,
  work: (...writers: RowWriter[]) => Promise<T>,
): Promise<T> {
  const writers: RowWriter[] = []
  try {
    for (let i = 0; i < count; i++) writers.push(await RowWriter.create(shelf))
    return await work(...writers)
  } catch (error) {
    await Promise.all(writers.map((writer) => writer.discard()))
    throw error
  }
}
