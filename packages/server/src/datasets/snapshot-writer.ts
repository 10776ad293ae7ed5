import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceError, type SnapshotRow } from '@mlx-training/contract'
import type { Conversation } from './formats/format.ts'

const FLUSH_CHARACTERS = 1024 * 1024

/**
 * Writes canonical rows to a private temporary file, hashed on the way; `publish` names it by its hash. A snapshot that is
 * there is complete: it is fsynced before the rename, and its folder after.
 */
export class SnapshotWriter {
  readonly #folder: string
  readonly #temporary: string
  readonly #handle: FileHandle
  readonly #hash = createHash('sha256')
  #pending: string[] = []
  #pendingCharacters = 0

  private constructor(folder: string, temporary: string, handle: FileHandle) {
    this.#folder = folder
    this.#temporary = temporary
    this.#handle = handle
  }

  static async create(folder: string): Promise<SnapshotWriter> {
    return explainFull(folder, async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const temporary = join(folder, `.${randomUUID()}.tmp`)
      return new SnapshotWriter(folder, temporary, await open(temporary, 'wx', 0o600))
    })
  }

  add({ turns, tools, alpaca, raw }: Conversation, sample: number): void {
    const messages = turns.map(({ role, content, train }) => ({ role, content, ...(train === false && { train }) }))
    const row: SnapshotRow = {
      sample,
      messages,
      ...(tools && { tools }),
      ...(alpaca && { alpaca }),
      ...(raw && { raw }),
    }
    const line = `${JSON.stringify(row)}\n`
    this.#pending.push(line)
    this.#pendingCharacters += line.length
  }

  async flush(atLeast = FLUSH_CHARACTERS): Promise<void> {
    if (this.#pendingCharacters < atLeast || this.#pending.length === 0) return
    const bytes = Buffer.from(this.#pending.join(''))
    this.discard()
    this.#hash.update(bytes)
    await explainFull(this.#folder, () => this.#handle.writeFile(bytes))
  }

  /** Forgets rows that have not been written yet. */
  discard(): void {
    this.#pending = []
    this.#pendingCharacters = 0
  }

  async publish(): Promise<{ path: string; sha256: string }> {
    await this.flush(0)
    const sha256 = this.#hash.digest('hex')
    const path = join(this.#folder, `${sha256}.jsonl`)
    await explainFull(this.#folder, () => this.#handle.sync())
    if (!(await stat(path).catch(() => null))) {
      await rename(this.#temporary, path)
      const folder = await open(this.#folder, 'r')
      await folder.sync().finally(() => folder.close())
    }
    return { path, sha256 }
  }

  /** Closes, and removes what was not published. */
  async close(): Promise<void> {
    await this.#handle.close()
    await rm(this.#temporary, { force: true })
  }
}

/** Runs `write`; a full disk or quota becomes ServiceError('insufficient_storage'). */
export async function explainFull<T>(folder: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error
    throw new ServiceError(
      'insufficient_storage',
      `No space left to copy the data set to ${folder}: free some and try again.`,
      {
        cause: error,
      },
    )
  }
}
