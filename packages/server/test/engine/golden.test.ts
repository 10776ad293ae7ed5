/** The protocol's other side reads the same file: engine/tests/test_protocol.py. */
import { readFileSync } from 'node:fs'
import { COMMANDS, FRAMES } from '@mlx-training/contract'
import { Compile } from 'typebox/compile'
import { describe, expect, it } from 'vitest'

const FILE = new URL('../../../../engine/tests/golden_frames.jsonl', import.meta.url)
const SCHEMAS = { ...FRAMES, ...COMMANDS }
const lines = readFileSync(FILE, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line) as { type: keyof typeof SCHEMAS })

describe('golden frames', () => {
  it('are of every frame and command', () => {
    expect(new Set(lines.map(({ type }) => type))).toEqual(new Set(Object.keys(SCHEMAS)))
  })

  it.each(lines)('$type is as the contract has it', (line) => {
    expect([...Compile(SCHEMAS[line.type]).Errors(line)]).toEqual([])
  })
})
