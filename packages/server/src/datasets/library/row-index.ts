import type { FileHandle } from 'node:fs/promises'

/** Where a row is: bytes from `offset` on; the line is that of the unpacked file, from 1. */
export interface Entry {
  offset: number
  length: number
  line: number
}

/** Offset (float64: exact to 2^53), length and line (uint32), little-endian. */
const ENTRY_BYTES = 16
/** Rows read at once when all of them are wanted, in entries and in bytes. */
const BATCH_ENTRIES = 4096
const BATCH_BYTES = 4 * 1024 * 1024

export function entryBytes({ offset, length, line }: Entry): Buffer {
  const bytes = Buffer.allocUnsafe(ENTRY_BYTES)
  bytes.writeDoubleLE(offset, 0)
  bytes.writeUInt32LE(length, 8)
  bytes.writeUInt32LE(line, 12)
  return bytes
}

/** Rows by number, through an index that buildIndex wrote. */
export class RowIndex {
  readonly count: number
  readonly #index: FileHandle
  readonly #rows: FileHandle

  private constructor(index: FileHandle, rows: FileHandle, count: number) {
    this.#index = index
    this.#rows = rows
    this.count = count
  }

  /** Takes the handles, and closes them with itself. */
  static async open(index: FileHandle, rows: FileHandle): Promise<RowIndex> {
    const { size } = await index.stat()
    return new RowIndex(index, rows, size / ENTRY_BYTES)
  }

  /** Entries of the rows from `first` on, at most `limit` of them. */
  async entries(first: number, limit: number): Promise<Entry[]> {
    const count = Math.max(0, Math.min(limit, this.count - first))
    const bytes = await readExactly(this.#index, first * ENTRY_BYTES, count * ENTRY_BYTES)
    return Array.from({ length: count }, (_, i) => ({
      offset: bytes.readDoubleLE(i * ENTRY_BYTES),
      length: bytes.readUInt32LE(i * ENTRY_BYTES + 8),
      line: bytes.readUInt32LE(i * ENTRY_BYTES + 12),
    }))
  }

  /** A row's bytes as they are in the file; none of a row that was too long to be read. */
  async bytes({ offset, length }: Entry): Promise<Buffer> {
    return await readExactly(this.#rows, offset, length)
  }

  /** All rows in their order. Each is valid until the next is asked for. */
  async *all(): AsyncGenerator<Buffer[]> {
    for (let first = 0; first < this.count; ) {
      const entries = await this.entries(first, BATCH_ENTRIES)
      const start = entries[0]?.offset ?? 0
      const beyond = entries.findIndex(({ offset, length }) => offset + length - start > BATCH_BYTES)
      const batch = entries.slice(0, beyond === -1 ? entries.length : Math.max(1, beyond))
      const last = batch.at(-1) as Entry
      const block = await readExactly(this.#rows, start, last.offset + last.length - start)
      yield batch.map(({ offset, length }) => block.subarray(offset - start, offset - start + length))
      first += batch.length
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#index.close(), this.#rows.close()])
  }
}

async function readExactly(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, position + filled)
    if (bytesRead === 0) throw new Error(`A data set's file ends ${length - filled} bytes too early`)
    filled += bytesRead
  }
  return bytes
}
