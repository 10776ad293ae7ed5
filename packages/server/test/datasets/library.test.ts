import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { type Dataset, type DatasetReading, type DatasetRow, REPAIRS, type RepairName } from '@mlx-training/contract'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { receive } from '../../src/datasets/library/receive.ts'
import { createService, type Service } from '../http/service.ts'
import { alpacaRows, lines } from './helpers.ts'

const PARQUET = fileURLToPath(new URL('parquet/', import.meta.url))

let service: Service
beforeAll(async () => {
  service = await createService({ env: { MLX_TRAINING_MAX_UPLOAD_BYTES: '3000000' } })
})
afterAll(() => service.close())

const upload = async (name: string, bytes: string | Buffer, reading: DatasetReading = {}) =>
  service.library.add(await service.library.receive(Readable.from([Buffer.from(bytes)])), {
    name,
    fileName: name,
    reading,
  })
const page = (id: string, offset = 0, limit = 20, issues = false) => service.library.rows(id, { offset, limit, issues })
const allRows = async (id: string) => {
  const rows: DatasetRow[] = []
  for (let next: number | null = 0; next !== null; ) {
    const got = await page(id, next, 200)
    rows.push(...got.rows)
    next = got.next_offset
  }
  return rows
}
const folders = () => readdir(join(service.config.home, 'datasets'))

describe('an uploaded data set', () => {
  it('is there once, however often its bytes come, and at the same time', async () => {
    const bytes = lines(...alpacaRows(11))
    const answers = await Promise.all([1, 2, 3, 4].map((n) => upload(`copy ${n}.jsonl`, bytes)))
    expect(answers.filter((answer) => !answer.already_there)).toHaveLength(1)
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1)
    // Read as a table, the same bytes are something else.
    expect((await upload('copy.csv', bytes)).id).not.toBe(answers[0]?.id)
    expect((await folders()).filter((name) => !name.startsWith('ds_'))).toEqual([])
  })

  it('is kept with its report when it is not valid', async () => {
    const answer = await upload('bad.jsonl', `${lines(...alpacaRows(3))}{"instruction": "cut o`)
    expect(answer).toMatchObject({ valid: false, rows: 4, valid_rows: 3, report: { counts: { invalid_json: 1 } } })
    const cut = await upload('cut.jsonl.gz', gzipSync(lines(...alpacaRows(99))).subarray(0, 200))
    expect(cut).toMatchObject({ valid: false, compressed: true, report: { counts: { bad_gzip: 1 } } })
    for (const empty of ['', '\n \n'])
      expect(await upload('empty.json', empty)).toMatchObject({ valid: false, rows: 0 })
  })

  it('is refused over the limit, and leaves nothing', async () => {
    const before = await folders()
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(100_000, ' ')
      })(),
    )
    await expect(service.library.receive(endless)).rejects.toMatchObject({
      code: 'payload_too_large',
      message: expect.stringMatching(/3000000 bytes.*MLX_TRAINING_MAX_UPLOAD_BYTES/),
    })
    await expect(service.library.receive(Readable.from([]), 3_000_001)).rejects.toMatchObject({
      code: 'payload_too_large',
    })
    await expect(service.library.receive(Readable.from([]), 2_000_000)).resolves.toMatchObject({ bytes: 0 })
    const noRoom = receive(Readable.from([]), service.folder, 1e18, 1e17)
    await expect(noRoom).rejects.toMatchObject({
      code: 'insufficient_storage',
      message: expect.stringContaining(' free'),
    })
    const broken = Readable.from(
      (function* () {
        yield Buffer.from('{}')
        throw new Error('the line went dead')
      })(),
    )
    await expect(service.library.receive(broken)).rejects.toThrow('the line went dead')
    const left = (await folders()).filter((name) => !before.includes(name))
    // The one that was received and never added; the next start removes it, and nothing else.
    expect(left).toHaveLength(1)
    await service.library.sweep()
    expect((await folders()).sort()).toEqual(before.sort())
  })

  it('may be deleted while it is uploaded again and read: each is told what it gets', async () => {
    const bytes = lines(...alpacaRows(12))
    const { id } = await upload('again.jsonl', bytes)
    const outcomes = await Promise.allSettled([
      service.library.remove(id),
      upload('again.jsonl', bytes),
      page(id),
      service.library.remove(id),
      upload('again.jsonl', bytes),
    ])
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'not_found' })
    const last = await upload('again.jsonl', bytes)
    expect((await page(last.id)).rows).toHaveLength(12)
    const there = new Set((await service.library.list(200)).datasets.map((dataset) => dataset.id))
    expect(new Set(await folders())).toEqual(there)
  })
})

describe('rows', () => {
  const rows = alpacaRows(250)

  it.each<[string, Buffer | string]>([
    ['x.jsonl', lines(...rows)],
    ['bom.jsonl', `\ufeff\n\n${lines(...rows)}`],
    ['crlf.jsonl', rows.map((row) => `${JSON.stringify(row)}\r\n\r\n`).join('')],
    ['no-end.jsonl', lines(...rows).trimEnd()],
    ['x.json', JSON.stringify(rows)],
    ['pretty.json', JSON.stringify(rows, null, 2)],
    ['x.jsonl.gz', gzipSync(lines(...rows))],
    ['x.csv', `instruction,input,output\n${rows.map((row) => `"${row.instruction}",,"${row.output}"\n`).join('')}`],
  ])('of %s are found one by one, in any order', async (name, bytes) => {
    const { id, rows: count, valid } = await upload(name, bytes)
    expect([count, valid]).toEqual([250, true])
    const whole = await allRows(id)
    expect(whole.map(({ row }) => row)).toEqual(rows)
    expect(whole.map(({ sample }) => sample)).toEqual(rows.map((_, i) => i))
    expect((await page(id, 249, 9)).rows).toEqual(whole.slice(249))
    expect(await page(id, 250)).toMatchObject({ rows: [], next_offset: null, total: 250 })
    expect(await page(id, 97, 3)).toMatchObject({ rows: whole.slice(97, 100), next_offset: 100 })
    const text = Buffer.isBuffer(bytes) ? lines(...rows) : bytes
    const at = whole[120]?.line ?? 0
    const from = text
      .split('\n')
      .slice(at - 1)
      .join('\n')
    expect(from).toContain(rows[120]?.instruction)
    expect(from.slice(from.indexOf('\n'))).not.toContain(JSON.stringify(rows[119]?.instruction))
  })

  it('of Parquet have no lines', async () => {
    const { id, report } = await upload('x.parquet', await readFile(join(PARQUET, 'messages.index.parquet')))
    const [first, , empty] = (await page(id)).rows
    expect(first).toMatchObject({
      sample: 0,
      line: null,
      messages: [{ role: 'user' }, { role: 'assistant' }],
      issues: [{ code: 'unknown_key', field: 'id', line: null }],
    })
    expect(report.errors[0]).toMatch(/^Sample 2: /)
    expect(report.issues.every(({ line }) => line === null)).toBe(true)
    expect(empty).toMatchObject({
      messages: null,
      issues: [{ code: 'unknown_key' }, { code: 'empty_conversation', line: null }],
    })
  })

  it('are told with what is wrong with them, at their places', async () => {
    const deep = `{"instruction": "Say it once more", "output": "it", "x": ${'['.repeat(50_000)}${']'.repeat(50_000)}}`
    const text = [
      ...alpacaRows(2).map((row) => JSON.stringify(row)),
      '',
      '{"instruction": "Say a thing",, "output": "b"}',
      '[1]',
      JSON.stringify(alpacaRows(1)[0]),
      deep,
      JSON.stringify({ instruction: `Say it with many letters: ${'x'.repeat(1_700_000)}`, output: 'long' }),
    ].join('\n')
    const { id, report } = await upload('wrong.jsonl', text)
    const got = (await page(id)).rows
    const codes = got.map(({ issues }) => issues.map(({ code }) => code))
    expect(codes).toEqual([[], [], ['invalid_json'], ['not_an_object'], ['duplicate_row'], expect.anything(), []])
    expect(got[2]).toMatchObject({ line: 4, row: null, messages: null, text: expect.stringContaining(',,') })
    for (const row of got)
      for (const issue of row.issues) {
        expect(issue).toMatchObject({ sample: row.sample, line: row.line })
        expect(report.issues).toContainEqual(issue)
      }
    expect(got[5]).toMatchObject({ row: null, text: expect.stringMatching(/…$/) })
    const named = await page(id, 1, 2, true)
    expect(named.rows.map(({ sample }) => sample)).toEqual([3, 4])
    expect(named).toMatchObject({ offset: 1, next_offset: 3 })
  })

  it('of an array are told as its elements', async () => {
    const { id } = await upload('wrong.json', `[{"instruction": "Say a thing" "output": "b"},\n 7, "x"]`)
    expect((await page(id)).rows.map(({ line, issues }) => [line, issues[0]?.code])).toEqual([
      [1, 'invalid_json'],
      [2, 'not_an_object'],
      [2, 'not_an_object'],
    ])
  })

  it('come in pages that end early when they are long', async () => {
    const long = Array.from({ length: 9 }, (_, i) => ({
      instruction: `Say ${i} at length`,
      output: 'x'.repeat(700_000),
    }))
    const { id } = await upload('long.jsonl.gz', gzipSync(lines(...long)))
    const first = await page(id)
    expect(first.rows).toHaveLength(5)
    expect(first.next_offset).toBe(5)
    expect((await allRows(id)).map(({ row }) => row)).toEqual(long)
  })
})

describe('a split', () => {
  const rowsOf = async (dataset: Dataset) => (await allRows(dataset.id)).map(({ row }) => JSON.stringify(row))

  it('puts every row on one side, and on the same when there are more', async () => {
    const rows = alpacaRows(400)
    const few = await upload('few.json', JSON.stringify(rows.slice(0, 300), null, 1))
    const many = await upload('many.jsonl', lines(...rows.toReversed()))
    const [a, b] = await Promise.all([few, many].map(({ id }) => service.library.split(id, { validation_share: 0.2 })))
    expect(a).toMatchObject({
      train: {
        name: 'few.train.jsonl',
        valid: true,
        origin: { operation: 'split', dataset_id: few.id, part: 'train' },
      },
      validation: { name: 'few.validation.jsonl', valid: true },
    })
    const [train, held] = [await rowsOf(a?.train as Dataset), await rowsOf(a?.validation as Dataset)]
    expect([...train, ...held].sort()).toEqual(
      rows
        .slice(0, 300)
        .map((row) => JSON.stringify(row))
        .sort(),
    )
    expect(held.length).toBeGreaterThan(30)
    expect(held.length).toBeLessThan(90)
    const more = new Set(await rowsOf(b?.validation as Dataset))
    for (const row of held) expect(more.has(row)).toBe(true)
    for (const row of train) expect(more.has(row)).toBe(false)
    const seeded = await service.library.split(few.id, { validation_share: 0.2, seed: 7 })
    expect(seeded.validation.sha256).not.toBe(a?.validation.sha256)
    const again = await service.library.split(few.id, { validation_share: 0.2, seed: 7 })
    expect(again.validation.id).toBe(seeded.validation.id)
  })

  it('leaves no side empty, and says when it can not be', async () => {
    const two = await upload('two.jsonl', lines(...alpacaRows(2)))
    for (const share of [1e-9, 0.5]) {
      const { train, validation } = await service.library.split(two.id, { validation_share: share })
      expect([train.rows, validation.rows]).toEqual([1, 1])
    }
    const same = await upload('same.jsonl', lines(...alpacaRows(1), ...alpacaRows(1)))
    await expect(service.library.split(same.id, { validation_share: 0.1 })).rejects.toMatchObject({
      code: 'invalid_parameters',
      message: expect.stringContaining('2 are all the same'),
    })
    const bad = await upload('bad2.jsonl', `${lines(...alpacaRows(2))}{}\n`)
    await expect(service.library.split(bad.id, { validation_share: 0.1 })).rejects.toMatchObject({
      code: 'invalid_dataset',
    })
    expect((await folders()).filter((name) => !name.startsWith('ds_'))).toEqual([])
  })
})

describe('cleaning', () => {
  const clean = async (rows: unknown[], repairs: RepairName[], format?: Dataset['format'], dry_run = false) => {
    const { id } = await upload(
      'dirty.jsonl',
      rows.map((row) => (typeof row === 'string' ? row : JSON.stringify(row))).join('\n'),
    )
    return await service.library.clean(id, { repairs, ...(format && { format }), dry_run })
  }
  const result = async (rows: unknown[], repairs: RepairName[], format?: Dataset['format']) => {
    const { dataset } = await clean(rows, repairs, format)
    return (await allRows(dataset?.id ?? '')).map(({ row, text }) => row ?? text)
  }
  const good = { instruction: 'Say what is good', input: '', output: 'This is good.' }

  it('trims texts, but not where a prompt and its completion meet', async () => {
    expect(await result([{ ...good, output: '\n It is.  ' }, good], ['trim'])).toEqual([
      { ...good, output: 'It is.' },
      good,
    ])
    expect(
      await result(
        [
          {
            conversations: [
              { from: 'human', value: ' a ' },
              { from: 'gpt', value: 'b\n' },
            ],
            system: ' s',
          },
        ],
        ['trim'],
      ),
    ).toEqual([
      {
        conversations: [
          { from: 'human', value: 'a' },
          { from: 'gpt', value: 'b' },
        ],
        system: 's',
      },
    ])
    expect(await result([{ prompt: ' Q: 1\nA:', completion: ' one \n' }], ['trim'])).toEqual([
      { prompt: 'Q: 1\nA:', completion: ' one' },
    ])
  })

  it('decodes what was decoded wrongly, once or twice, and leaves other texts alone', async () => {
    const wrong = (text: string) => new TextDecoder('windows-1252').decode(Buffer.from(text))
    const text = 'Größe “naïve” – 日本語 🌅'
    for (const times of [1, 2]) {
      let output = text
      for (let i = 0; i < times; i++) output = wrong(output)
      expect(await result([{ ...good, output }], ['fix_mojibake'])).toEqual([{ ...good, output: text }])
    }
    const french = { ...good, output: 'Il dit « à » et Ã la fin' }
    expect(await result([french, good], ['fix_mojibake'])).toEqual([french, good])
  })

  it('gives roles one name', async () => {
    const turns = [
      { from: 'system', value: 's' },
      { from: 'User', value: 'q' },
      { from: 'assistant', value: 'a' },
      { from: 'user', value: 'q2' },
      { from: 'function_call', value: '{}' },
      { from: 'tool', value: '1' },
      { from: 'chatgpt', value: 'b' },
    ]
    const [row] = (await result([{ conversations: turns }], ['normalise_roles'])) as [
      { conversations: { from: string }[] },
    ]
    expect(row.conversations.map(({ from }) => from)).toEqual([
      ...['system', 'human', 'gpt', 'human', 'function_call', 'observation', 'gpt'],
    ])
    const openai = {
      messages: [
        { role: 'human', content: 'q' },
        { role: 'model', content: 'a' },
      ],
      system: 'beside',
    }
    expect(await result([openai], ['normalise_roles'])).toEqual([
      {
        ...openai,
        messages: [
          { role: 'user', content: 'q' },
          { role: 'assistant', content: 'a' },
        ],
      },
    ])
  })

  it('drops what is empty, there twice or wrong, and tells of each', async () => {
    const rows = [good, { ...good, output: ' ' }, good, { nothing: 1 }, '{"broken', 7, { ...good, output: 'Another.' }]
    const { dataset, ...told } = await clean(rows, ['drop_invalid', 'drop_duplicates', 'drop_empty'])
    expect(dataset).toMatchObject({ rows: 2, valid: true, origin: { operation: 'clean' }, name: 'dirty.clean.jsonl' })
    expect(told).toEqual({
      rows_before: 7,
      rows_after: 2,
      repairs: [
        {
          repair: 'drop_empty',
          rows_changed: 0,
          rows_dropped: 1,
          first_rows: [{ sample: 1, what: expect.stringMatching(/^Empty output/) }],
        },
        {
          repair: 'drop_duplicates',
          rows_changed: 0,
          rows_dropped: 1,
          first_rows: [{ sample: 2, what: 'Same as sample 0' }],
        },
        {
          repair: 'drop_invalid',
          rows_changed: 0,
          rows_dropped: 3,
          first_rows: [
            { sample: 3, what: expect.stringMatching(/^The row has keys nothing/) },
            { sample: 4, what: 'Not a JSON object' },
            { sample: 5, what: 'Not a JSON object' },
          ],
        },
      ],
    })
    await expect(clean([{ nothing: 1 }], ['drop_invalid'])).rejects.toMatchObject({ code: 'invalid_parameters' })
  })

  it('only tells what it would do when that is asked', async () => {
    const before = (await service.library.list(200)).datasets.length
    const told = await clean([{ ...good, output: 'only asked ' }], ['trim'], undefined, true)
    expect(told).toMatchObject({ dataset: null, rows_after: 1, repairs: [{ rows_changed: 1 }] })
    expect((await service.library.list(200)).datasets.length).toBe(before + 1)
  })

  it('leaves rows that nothing is wrong with byte for byte as they are', async () => {
    const odd = '{ "output":"x y z",  "instruction" : "Keep my \\u0062lanks" , "__proto__": {"a": 1e2}}'
    const { id } = await upload('odd.jsonl', `${odd}\n`)
    const { dataset } = await service.library.clean(id, {
      repairs: [...REPAIRS.filter((name) => name !== 'convert')],
      dry_run: false,
    })
    // The same bytes: the very data set.
    expect(dataset?.id).toBe(id)
  })

  it('converts between formats and back', async () => {
    const chat = fc.array(fc.tuple(fc.string({ minLength: 1 }), fc.string({ minLength: 1 })), {
      minLength: 1,
      maxLength: 3,
    })
    await fc.assert(
      fc.asyncProperty(chat, fc.option(fc.string({ minLength: 1 }), { nil: null }), async (pairs, system) => {
        const messages = [
          ...(system === null ? [] : [{ role: 'system', content: system }]),
          ...pairs.flatMap(([question, answer]) => [
            { role: 'user', content: question },
            { role: 'assistant', content: answer },
          ]),
        ]
        let rows: unknown[] = [{ messages }]
        if (pairs.at(-1)?.[0].trim() === '') {
          await expect(result(rows, ['convert'], 'alpaca')).rejects.toMatchObject({
            code: 'invalid_parameters',
            message: "Sample 0 can't be alpaca: its last question is empty, which Alpaca does not allow",
          })
          return
        }
        for (const format of ['alpaca', 'sharegpt', 'openai'] as const) rows = await result(rows, ['convert'], format)
        expect(rows).toEqual([{ messages }])
      }),
      {
        numRuns: 10,
        examples: [
          [[['q', 'a']], null],
          [[[' ', ' ']], null],
        ],
      },
    )
    expect(await result([good], ['convert'], 'prompt_completion')).toEqual([
      { prompt: good.instruction, completion: good.output },
    ])
    expect(await result([{ prompt: 'a', completion: 'b' }], ['convert'], 'text')).toEqual([{ text: 'ab' }])
    expect(await result([{ prompt: 'a', completion: 'b' }], ['convert'], 'openai')).toEqual([
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
    ])
    const withTools = {
      messages: [
        { role: 'user', content: 'q' },
        { role: 'assistant', content: 'a' },
      ],
      tools: [{ name: 't' }],
    }
    await expect(clean([good, withTools], ['convert'], 'alpaca')).rejects.toMatchObject({
      code: 'invalid_parameters',
      message: "Sample 1 can't be alpaca: it has tools",
    })
    const unlearned = {
      messages: [
        { role: 'user', content: 'q' },
        { role: 'assistant', content: 'a', weight: 0 },
      ],
    }
    for (const format of ['alpaca', 'prompt_completion'] as const)
      await expect(clean([unlearned], ['convert'], format)).rejects.toMatchObject({
        code: 'invalid_parameters',
        message: `Sample 0 can't be ${format}: it has turns that are not to be learned`,
      })
    await expect(clean([good], ['convert'])).rejects.toMatchObject({ code: 'invalid_parameters' })
    expect((await folders()).filter((name) => !name.startsWith('ds_'))).toEqual([])
  }, 90_000)
})

describe('a data set with its own names', () => {
  const reading: DatasetReading = {
    columns: { messages: 'dialog', system: 'rule' },
    tags: { role_tag: 'who', content_tag: 'said', user_tag: 'Kunde', assistant_tag: 'Berater' },
  }
  const dialog = (i: number, ...more: object[]) => ({
    rule: ' Be brief.',
    dialog: [{ who: 'Kunde', said: `What is ${i}? ` }, { who: 'gpt', said: `It is ${i}, sch\u00c3\u00b6n.` }, ...more],
  })
  const file = lines(...Array.from({ length: 12 }, (_, i) => dialog(i)), dialog(3), { dialog: [] })

  it('is read by them in everything that is done with it', async () => {
    const set = await upload('dialogs.jsonl', file, reading)
    expect(set).toMatchObject({
      reading,
      format: 'sharegpt',
      valid_rows: 13,
      report: { counts: { empty_conversation: 1 } },
    })
    expect((await page(set.id)).rows[0]).toMatchObject({
      messages: [{ role: 'system' }, { role: 'user', content: 'What is 0? ' }, { role: 'assistant' }],
    })
    const repairs: RepairName[] = ['trim', 'fix_mojibake', 'normalise_roles', 'drop_duplicates', 'drop_invalid']
    const { dataset, repairs: done } = await service.library.clean(set.id, { repairs, dry_run: false })
    expect(done.map(({ rows_changed, rows_dropped }) => rows_changed + rows_dropped)).toEqual([13, 13, 13, 1, 1])
    expect(dataset).toMatchObject({ reading, valid: true, rows: 12 })
    expect((await allRows(dataset?.id ?? '')).map(({ row }) => row)[2]).toEqual({
      rule: 'Be brief.',
      dialog: [
        { who: 'Kunde', said: 'What is 2?' },
        { who: 'Berater', said: 'It is 2, schön.' },
      ],
    })
    const { train, validation } = await service.library.split(dataset?.id ?? '', { validation_share: 0.25 })
    for (const part of [train, validation]) expect(part).toMatchObject({ reading, valid: true })
    expect(train.rows + validation.rows).toBe(12)
    const { dataset: usual } = await service.library.clean(dataset?.id ?? '', {
      repairs: ['convert'],
      format: 'openai',
      dry_run: false,
    })
    expect(usual).toMatchObject({ reading: {}, valid: true, format: 'openai', rows: 12 })
  })

  it('is another one than the same bytes under their usual names', async () => {
    const bytes = lines(...alpacaRows(12))
    const { id } = await upload('a.jsonl', bytes)
    expect((await upload('b.jsonl', bytes, { columns: {} })).id).toBe(id)
    const columns = { prompt: 'instruction', response: 'output' }
    const named = await upload('c.jsonl', bytes, { columns })
    expect(named.id).not.toBe(id)
    expect((await upload('d.jsonl', bytes, { columns: { response: 'output', prompt: 'instruction' } })).id).toBe(
      named.id,
    )
  })

  it('trims a prompt and its completion where they do not meet', async () => {
    const row = { head: ' Q\n', tail: ' A ' }
    const columns = { prompt: 'head', response: 'tail' }
    const { id } = await upload('raw.jsonl', lines(row), { format: 'prompt_completion', columns })
    const { dataset } = await service.library.clean(id, { repairs: ['trim'], dry_run: false })
    expect((await allRows(dataset?.id ?? '')).map(({ raw }) => raw)).toEqual([{ prompt: 'Q\n', completion: ' A' }])
  })
})
