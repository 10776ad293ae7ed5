import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { AppendFile } from './append-file.ts'
import type { Received } from './port.ts'
import { FILES } from './shelf.ts'

/** Writes rows as a new file of JSON Lines, as if it had been uploaded. */
export class RowWriter {
  readonly #folder: string
  readonly #file: AppendFile
  readonly #hash = createHash('sha256')

  private constructor(folder: string, file: AppendFile) {
    this.#folder = folder
    this.#file = file
  }

  static async create(folder: string): Promise<RowWriter> {
    return new RowWriter(folder, await AppendFile.create(join(folder, FILES.data)))
  }

  /** A row of JSON. One that stood in an array may have line breaks between its tokens. */
  add(row: Buffer): void {
    const line = Buffer.allocUnsafe(row.length + 1)
    row.copy(line)
    for (const lineBreak of [0x0a, 0x0d])
      for (let at = row.indexOf(lineBreak); at !== -1; at = row.indexOf(lineBreak, at + 1)) line[at] = 0x20
    line[row.length] = 0x0a
    this.#file.add(line)
  }

  async flush(): Promise<void> {
    await this.#file.flush(undefined, (bytes) => this.#hash.update(bytes))
  }

  async finish(): Promise<Received> {
    await this.#file.flush(0, (bytes) => this.#hash.update(bytes))
    await this.#file.finish()
    return { folder: this.#folder, sha256: this.#hash.digest('hex'), bytes: this.#file.size }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** Makes a writer for each folder. Whoever made the folders takes care of them. */
export async function withWriters<T>(
  folders: readonly string[],
  work: (...writers: RowWriter[]) => Promise<T>,
): Promise<T> {
  const writers: RowWriter[] = []
  try {
    for (const folder of folders) writers.push(await RowWriter.create(folder))
    return await work(...writers)
  } finally {
    await Promise.all(writers.map((writer) => writer.close()))
  }
}
