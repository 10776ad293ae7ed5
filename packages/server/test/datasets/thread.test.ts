import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
// As built: threads load JavaScript only.
import { Source } from '../../dist/datasets/containers/source.js'
import { openOffThread } from '../../dist/datasets/containers/thread.js'
import { LIMITS, temporaryFolder } from './helpers.ts'

const PARQUET = fileURLToPath(new URL('parquet/', import.meta.url))

async function read(path: string, silentMs?: number) {
  const handle = await open(path)
  let text = ''
  let fault = null
  try {
    for await (const chunk of (await openOffThread(await Source.of(handle.fd, path), LIMITS, silentMs)).chunks)
      text += chunk
  } catch (error) {
    fault = error
  } finally {
    await handle.close()
  }
  return { text, fault }
}

describe('what is unpacked on a thread', () => {
  it('is the same as on this one, faults included', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'x.csv.gz')
    const rows = Array.from({ length: 40_000 }, (_, i) => `row ${i},"${'text '.repeat(10)}"`)
    await writeFile(path, gzipSync(`a,b\n${rows.join('\n')}\n1,2,3\n`))
    const { text, fault } = await read(path)
    expect(fault).toMatchObject({ code: 'ragged_row', line: 40_002 })
    const lines = text.split('\n')
    expect(lines).toHaveLength(40_002)
    expect(JSON.parse(lines.at(-2) ?? '')).toEqual({ a: 'row 39999', b: 'text '.repeat(10) })
    expect((await read(join(PARQUET, 'alpaca.snappy.parquet'))).text.split('\n')).toHaveLength(6)
  })

  it('may be left early, and leaves no thread', async () => {
    const path = join(await temporaryFolder(), 'x.csv')
    await writeFile(path, `a\n${'some text\n'.repeat(500_000)}`)
    const handle = await open(path)
    const { chunks } = await openOffThread(await Source.of(handle.fd, path), LIMITS)
    for await (const chunk of chunks) {
      expect(chunk.length).toBeGreaterThan(0)
      break
    }
    await handle.close()
  })

  it('may be damaged Parquet: rows come out, or a fault', async () => {
    const whole = await readFile(join(PARQUET, 'messages.index.parquet'))
    const path = join(await temporaryFolder(), 'x.parquet')
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 0, max: whole.length }),
        fc.boolean(),
        async (changes, length, cut) => {
          const bytes = Buffer.from(cut ? whole.subarray(0, length) : whole)
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
          await writeFile(path, bytes)
          const { fault } = await read(path, 3000)
          if (fault) expect(fault).toMatchObject({ name: 'Error', code: expect.stringMatching(/^[a-z_]+$/) })
        },
      ),
      { numRuns: 25 },
    )
  }, 120_000)
})
