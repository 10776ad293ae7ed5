import type { FileHandle } from 'node:fs/promises'
import { FileFault } from './fault.ts'

/** Reads as far as the file went when opened; each chunk is valid until the next is asked for. */
export async function* readChunks(handle: FileHandle, chunkBytes = 1024 * 1024): AsyncGenerator<Buffer> {
  const before = await handle.stat({ bigint: true })
  const size = Number(before.size)
  const buffer = Buffer.allocUnsafe(chunkBytes)
  let position = 0
  while (position < size) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(chunkBytes, size - position), position)
    if (bytesRead === 0) break
    position += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
  const after = await handle.stat({ bigint: true })
  if (position !== size || after.size !== before.size || after.mtimeNs !== before.mtimeNs)
    throw new FileFault('file_changed', 'The file changed while it was read: try again when nothing writes to it')
}
