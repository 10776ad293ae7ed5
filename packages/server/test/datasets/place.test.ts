import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { blake2b8 } from '../../src/datasets/library/blake2b.ts'
import { place } from '../../src/datasets/library/place.ts'

const GOLDEN = new URL('../../../../engine/tests/golden_split.jsonl', import.meta.url)

describe('the place of a row in a split', () => {
  it('is the one that the engine gives it', () => {
    const lines = readFileSync(GOLDEN, 'utf8').trimEnd().split('\n')
    expect(lines.length).toBeGreaterThan(100)
    for (const line of lines) {
      const { row, place: expected } = JSON.parse(line)
      expect(place({ turns: row.messages, tools: row.tools?.length ? row.tools : undefined, raw: row.raw }), line).toBe(
        expected,
      )
    }
  })

  it('is another with a seed, evenly spread either way', () => {
    const rows = Array.from({ length: 2000 }, (_, i) => ({
      turns: [{ role: 'user' as const, content: `question ${i}`, field: '' }],
    }))
    for (const seed of [undefined, 0, 1]) {
      const places = rows.map((row) => place(row, seed))
      expect(Math.min(...places)).toBeGreaterThanOrEqual(0)
      expect(Math.max(...places)).toBeLessThan(1)
      const below = places.filter((at) => at < 0.1).length
      expect(below).toBeGreaterThan(130)
      expect(below).toBeLessThan(270)
    }
    expect(place(rows[0] as (typeof rows)[0], 1)).not.toBe(place(rows[0] as (typeof rows)[0]))
  })
})

describe('BLAKE2b with 8 bytes', () => {
  const hex = (data: Buffer, key?: Buffer) => {
    const digest = Buffer.alloc(8)
    const [low, high] = blake2b8(data, key)
    digest.writeUInt32LE(low, 0)
    digest.writeUInt32LE(high, 4)
    return digest.toString('hex')
  }

  // By Python: hashlib.blake2b((bytes(range(256)) * 4)[:n], digest_size=8, key=...).hexdigest()
  it.each<[number, number, string]>([
    [0, 0, 'e4a6a0577479b2b4'],
    [0, 1, '2111189c0e723b49'],
    [0, 64, '39ca7a071d794876'],
    [1, 0, '94f6d9cdd1ea8248'],
    [1, 1, 'bc524404d1dc9e21'],
    [1, 64, 'e1da999a275d76a0'],
    [3, 0, 'e879c20168a0a436'],
    [3, 1, 'ddb4e25a52e83ee8'],
    [3, 64, '2ba57ec440c66ebb'],
    [127, 0, '68005651c301c41e'],
    [127, 1, 'd5f8902c63a2a201'],
    [127, 64, 'fe34f89d9540db69'],
    [128, 0, 'c2d13df1b6617e82'],
    [128, 1, '6287bc7f5fbb61a2'],
    [128, 64, '2192ff5506eb5140'],
    [129, 0, 'f667e47a6d5350a6'],
    [129, 1, 'ceb83153cd951a43'],
    [129, 64, '7586c37c7aaa8eb0'],
    [255, 0, '88a24b1024ba2314'],
    [255, 1, '4afd510438010769'],
    [255, 64, '40149087ca49395d'],
    [256, 0, '2b2cedfed655ad3f'],
    [256, 1, '3e9b38e1da42a120'],
    [256, 64, '2131732b1d7a396e'],
    [257, 0, '2210e66ecf77af81'],
    [257, 1, '71af2f7464bab7b0'],
    [257, 64, '1be60d90e68e1e3b'],
    [1000, 0, 'a4bf5890100b2ac6'],
    [1000, 1, '23deeb0c31029365'],
    [1000, 64, '559c8e446d3ac1e0'],
  ])('of %i bytes with a key of %i', (length, keyLength, expected) => {
    const data = Buffer.alloc(length, Buffer.from(Array.from({ length: 256 }, (_, i) => i)))
    expect(hex(data, Buffer.alloc(keyLength, 'k'))).toBe(expected)
  })
})
