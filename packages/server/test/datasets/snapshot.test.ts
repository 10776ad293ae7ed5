import { createHash } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { open, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceError, SnapshotRow, ValidateResponse } from '@mlx-training/contract'
import { Value } from 'typebox/value'
import { describe, expect, it } from 'vitest'
import { explainFull } from '../../src/datasets/snapshot-writer.ts'
import { readChunks } from '../../src/datasets/split/chunks.ts'
import { alpacaRows, lines, serviceWith, temporaryFolder, turn } from './helpers.ts'

const rowsOf = async (path: string): Promise<SnapshotRow[]> =>
  (await readFile(path, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

describe('snapshot', () => {
  it('is canonical JSONL named by its hash, private, and the same file the second time', async () => {
    const { folder, datasets, name } = await serviceWith(JSON.stringify(alpacaRows(30), null, 2))
    const first = await datasets.snapshot(name, undefined)
    const bytes = await readFile(first.path)
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(first.sha256)
    expect(first.path).toBe(join(folder, 'home', 'snapshots', `${first.sha256}.jsonl`))
    const { mode, mtimeMs } = await stat(first.path)
    expect(mode & 0o777).toBe(0o600)
    const rows = await rowsOf(first.path)
    expect(rows.map(({ sample }) => sample)).toEqual(Array.from({ length: 30 }, (_, i) => i))
    expect(rows.every((row) => Value.Check(SnapshotRow, row))).toBe(true)
    expect(first).toMatchObject({ format: 'alpaca', samples: 30, report: { valid: true } })
    expect(Value.Check(ValidateResponse, first.report)).toBe(true)

    await writeFile(join(folder, 'lines.jsonl'), lines(...alpacaRows(30)))
    const again = await datasets.snapshot('lines.jsonl', 'alpaca')
    expect(again.path).toBe(first.path)
    expect((await stat(again.path)).mtimeMs).toBe(mtimeMs)
    expect(await readdir(join(folder, 'home', 'snapshots'))).toEqual([`${first.sha256}.jsonl`])
  })

  it('turns Alpaca rows into messages', async () => {
    const { datasets, name } = await serviceWith(
      lines(
        { instruction: 'Add the numbers.', input: '1 2', output: '3' },
        {
          instruction: 'And now these?',
          input: '',
          output: '7',
          system: 'Be brief.',
          history: [['Add 1 and 2.', '3']],
        },
      ),
    )
    expect(await rowsOf((await datasets.snapshot(name, undefined)).path)).toEqual([
      {
        sample: 0,
        messages: [
          { role: 'user', content: 'Add the numbers.\n\n1 2' },
          { role: 'assistant', content: '3' },
        ],
        alpaca: { instruction: 'Add the numbers.', input: '1 2' },
      },
      {
        sample: 1,
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'Add 1 and 2.' },
          { role: 'assistant', content: '3' },
          { role: 'user', content: 'And now these?' },
          { role: 'assistant', content: '7' },
        ],
        alpaca: { instruction: 'And now these?', input: '' },
      },
    ])
  })

  it('turns ShareGPT and OpenAI rows into messages, with roles and tools in one form', async () => {
    const tool = { name: 'add', parameters: { type: 'object' } }
    const { datasets, name } = await serviceWith(
      JSON.stringify([
        {
          system: 'Use tools.',
          tools: JSON.stringify([tool]),
          conversations: [
            turn('human', 'Add 1 and 2'),
            turn('function_call', '{"name": "add", "arguments": {"a": 1, "b": 2}}'),
            turn('observation', '3'),
            turn('ChatGPT', 'It is 3.'),
          ],
        },
        {
          tools: [tool],
          messages: [
            { role: 'developer', content: 'Use tools.' },
            {
              role: 'user',
              content: [
                { type: 'text', text: 'Add 1 ' },
                { type: 'text', text: 'and 2' },
              ],
            },
            {
              role: 'assistant',
              content: null,
              tool_calls: [{ id: 'x', type: 'function', function: { name: 'add', arguments: '{"a":1,"b":2}' } }],
            },
            { role: 'tool', tool_call_id: 'x', content: '3' },
            { role: 'assistant', content: 'It is 3.' },
          ],
        },
        {
          conversations: [
            { role: 'user', content: 'Hi' },
            { role: 'bot', content: 'Hello' },
          ],
          tools: '',
        },
      ]),
    )
    const snapshot = await datasets.snapshot(name, 'sharegpt')
    const [sharegpt, openai, plain] = await rowsOf(snapshot.path)
    const messages = (call: string) => [
      { role: 'system', content: 'Use tools.' },
      { role: 'user', content: 'Add 1 and 2' },
      { role: 'assistant', content: call },
      { role: 'tool', content: '3' },
      { role: 'assistant', content: 'It is 3.' },
    ]
    expect(sharegpt).toEqual({
      sample: 0,
      messages: messages('{"name": "add", "arguments": {"a": 1, "b": 2}}'),
      tools: [tool],
    })
    expect(openai).toEqual({ sample: 1, messages: messages('{"name":"add","arguments":{"a":1,"b":2}}'), tools: [tool] })
    expect(plain).toEqual({
      sample: 2,
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello' },
      ],
    })
    expect(snapshot.report.detection).toBe(
      '2 of 3 rows have conversations with from and value, 1 of 3 rows have messages with role and content; the file is a JSON array',
    )
  })

  it('keeps plain text as it is', async () => {
    const { datasets, name } = await serviceWith(lines({ prompt: 'Once ', completion: 'upon a time' }))
    expect(await rowsOf((await datasets.snapshot(name, undefined)).path)).toEqual([
      { sample: 0, messages: [], raw: { prompt: 'Once ', completion: 'upon a time' } },
    ])
    const other = await serviceWith(lines({ text: ' All of it.\n' }))
    expect(await rowsOf((await other.datasets.snapshot(other.name, undefined)).path)).toEqual([
      { sample: 0, messages: [], raw: { prompt: '', completion: ' All of it.\n' } },
    ])
  })

  it('carries over which assistant turns are not to be learned', async () => {
    const { datasets, name } = await serviceWith(
      lines(
        {
          conversations: [
            { ...turn('human', 'One?'), train: false },
            { ...turn('gpt', '1'), train: false, training: null },
            turn('human', 'Two?'),
            { ...turn('gpt', '2'), train: true, weight: 1 },
          ],
        },
        {
          messages: [
            { role: 'user', content: 'One?' },
            { role: 'assistant', content: '1', weight: 0 },
            { role: 'user', content: 'Two?', weight: 0 },
            { role: 'assistant', content: '2', training: true },
            { role: 'user', content: 'Three?' },
            { role: 'assistant', content: '3', training: false, weight: 1 },
          ],
        },
      ),
    )
    const { path, report } = await datasets.snapshot(name, 'sharegpt')
    const rows = await rowsOf(path)
    expect(rows.every((row) => Value.Check(SnapshotRow, row))).toBe(true)
    expect(rows.map(({ messages }) => messages)).toEqual([
      [
        { role: 'user', content: 'One?' },
        { role: 'assistant', content: '1', train: false },
        { role: 'user', content: 'Two?' },
        { role: 'assistant', content: '2' },
      ],
      [
        { role: 'user', content: 'One?' },
        { role: 'assistant', content: '1', train: false },
        { role: 'user', content: 'Two?' },
        { role: 'assistant', content: '2' },
        { role: 'user', content: 'Three?' },
        { role: 'assistant', content: '3', train: false },
      ],
    ])
    expect(report.counts).toEqual({ few_rows: 1 })
  })

  it('refuses a file with a bad row, with the first errors and counts, and leaves nothing behind', async () => {
    const { folder, datasets, name } = await serviceWith(
      lines(...alpacaRows(20), { instruction: 'Name a colour.', output: 3 }),
    )
    const error = await datasets.snapshot(name, undefined).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(ServiceError)
    expect(error).toMatchObject({
      code: 'invalid_dataset',
      status: 400,
      message:
        '"data.json" can\'t be trained on: Sample 20 (line 21): "output" must be a string, not a number. ' +
        '1 of 21 rows have errors. Found: wrong_type 1. POST /datasets/validate tells all of it.',
      errors: [{ field: 'dataset', message: 'Sample 20 (line 21): "output" must be a string, not a number' }],
    })
    expect(await readdir(join(folder, 'home', 'snapshots'))).toEqual([])
  })

  it('refuses another format than the one asked for', async () => {
    const { datasets, name } = await serviceWith(lines(...alpacaRows(20)))
    await expect(datasets.snapshot(name, 'sharegpt')).rejects.toThrow(
      /asked for is sharegpt, but this is alpaca: 20 of 20 rows/,
    )
  })

  it.runIf(process.platform === 'linux')('tells a full disk as such', async () => {
    const full = await open('/dev/full', 'w')
    try {
      await expect(explainFull('snapshots', () => full.writeFile('rows'))).rejects.toMatchObject({
        code: 'insufficient_storage',
        status: 507,
        message: 'No space left to copy the data set to snapshots: free some and try again.',
      })
    } finally {
      await full.close()
    }
  })
})

describe('validate', () => {
  it('answers what the contract says', async () => {
    const { datasets, name } = await serviceWith(lines(...alpacaRows(20)))
    const report = await datasets.validate(name)
    expect(Value.Check(ValidateResponse, report)).toBe(true)
    expect(report).toMatchObject({
      valid: true,
      format: 'alpaca',
      total_samples: 20,
      valid_samples: 20,
      errors: [],
      warnings: [],
    })
  })

  it('tells about the path as a service error', async () => {
    const { datasets } = await serviceWith('')
    await expect(datasets.validate('dat.json')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(/Did you mean ".*data\.json"\?$/),
    })
    await expect(datasets.validate('/etc/passwd')).rejects.toMatchObject({ code: 'forbidden' })
    await expect(datasets.validate('.')).rejects.toMatchObject({ code: 'invalid_path' })
  })

  it('notices that a file changes while it is read', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'growing.jsonl')
    await writeFile(path, lines(...alpacaRows(20)))
    const handle = await open(path)
    try {
      const chunks = readChunks(handle, 256)
      await chunks.next()
      appendFileSync(path, lines(...alpacaRows(1)))
      const drain = async () => {
        for await (const _ of chunks);
      }
      await expect(drain()).rejects.toMatchObject({ code: 'file_changed' })
    } finally {
      await handle.close()
    }
  })
})
