import { open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { openContainer } from '../../src/datasets/containers/index.ts'
import { Source } from '../../src/datasets/containers/source.ts'
import { FileFault } from '../../src/datasets/split/fault.ts'
import { LIMITS, temporaryFolder } from './helpers.ts'

const PARQUET = fileURLToPath(new URL('parquet/', import.meta.url))

/** What the container holds, as text, and the fault that ended it. */
async function read(path: string, limits = LIMITS) {
  const handle = await open(path)
  onTestFinished(() => handle.close().catch(() => {}))
  const { chunks, ...opened } = await openContainer(await Source.of(handle.fd, path), limits)
  let text = ''
  let fault: FileFault | null = null
  try {
    for await (const chunk of chunks) text += chunk
  } catch (error) {
    if (!(error instanceof FileFault)) throw error
    fault = error
  }
  await handle.close()
  const rows = () =>
    text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  return { ...opened, text, fault, rows }
}

async function readBytes(name: string, bytes: string | Buffer, limits = LIMITS) {
  const path = join(await temporaryFolder(), name)
  await writeFile(path, bytes)
  return await read(path, limits)
}

describe('plain files', () => {
  it('come out as they are', async () => {
    const text = `[{"a": 1}]\n`
    expect(await readBytes('x.json', text)).toMatchObject({
      kind: 'plain',
      gzip: false,
      lines: 'file',
      text,
      fault: null,
    })
  })
})

describe('gzip', () => {
  it('is unpacked when its name and its first bytes say so, members one after the other', async () => {
    const bytes = Buffer.concat([gzipSync('{"a":1}\n'), gzipSync('{"a":2}\n')])
    const members = await readBytes('X.JSONL.GZ', bytes)
    expect(members.rows()).toEqual([{ a: 1 }, { a: 2 }])
    expect(members).toMatchObject({
      kind: 'plain',
      gzip: true,
      lines: 'file',
    })
    expect(await readBytes('x.csv.gz', gzipSync('a,b\n1,2\n'))).toMatchObject({
      kind: 'csv',
      gzip: true,
      text: '\n{"a":"1","b":"2"}\n',
    })
    expect((await readBytes('x.jsonl.gz', '{"a":1}\n')).fault).toMatchObject({ code: 'bad_gzip' })
    expect((await readBytes('x.jsonl.gz', '')).fault).toMatchObject({ code: 'empty_file' })
    expect((await readBytes('x.parquet.gz', gzipSync('PAR1'))).fault).toMatchObject({ code: 'unsupported_parquet' })
  })

  it('says that it was cut off, or where it is damaged, after the rows before', async () => {
    const whole = gzipSync(Array.from({ length: 9999 }, (_, i) => `{"a":${(i * 7919) % 10007}}\n`).join(''))
    const cut = await readBytes('x.jsonl.gz', whole.subarray(0, whole.length - 20))
    expect(cut.fault).toMatchObject({ code: 'bad_gzip', message: expect.stringContaining('cut off') })
    expect(cut.text.length).toBeGreaterThan(50_000)
    const damaged = Buffer.from(whole)
    damaged.fill(0x55, 12_000, 12_010)
    expect((await readBytes('x.jsonl.gz', damaged)).fault).toMatchObject({ code: 'bad_gzip' })
  })

  it('stops at a bomb, by size and by ratio', async () => {
    const bomb = gzipSync(Buffer.alloc(100_000_000, '{}\n'))
    const bySize = await readBytes('x.jsonl.gz', bomb, { ...LIMITS, maxExpandedBytes: 1_000_000 })
    expect(bySize.fault).toMatchObject({
      code: 'expands_too_far',
      message: expect.stringContaining('MAX_EXPANDED_BYTES'),
    })
    expect(bySize.text.length).toBeLessThanOrEqual(1_000_000)
    const byRatio = await readBytes('x.jsonl.gz', bomb)
    expect(byRatio.fault).toMatchObject({
      code: 'expands_too_far',
      message: expect.stringContaining('EXPANSION_RATIO'),
    })
    expect(byRatio.text.length).toBeLessThan(70_000_000)
  })
})

describe('CSV and TSV', () => {
  it('makes an object of every row, on its own line', async () => {
    const { text, ...rest } = await readBytes(
      'x.csv',
      '\ufeffinstruction, output\r\n"a ""b"", c","d\r\ne"\r\n\r\nf,__proto__\r\n',
    )
    expect(rest).toMatchObject({ kind: 'csv', lines: 'file', fault: null })
    expect(text.split('\n')).toEqual([
      '',
      '{"instruction":"a \\"b\\", c","output":"d\\r\\ne"}',
      '',
      '',
      '{"instruction":"f","output":"__proto__"}',
      '',
    ])
  })

  it('finds the delimiter in the header; .tsv has tabs', async () => {
    const expected = [{ a: '1', 'b,c': '2' }]
    for (const delimiter of [';', '\t', '|'])
      expect((await readBytes('x.csv', `a${delimiter}"b,c"\n1${delimiter}2\n`)).rows()).toEqual(expected)
    expect((await readBytes('x.tsv', 'a,b;c\td\n1\t2')).rows()).toEqual([{ 'a,b;c': '1', d: '2' }])
    expect((await readBytes('x.csv', 'a\r1\r2\r')).rows()).toEqual([{ a: '1' }, { a: '2' }])
  })

  it('reads lists from cells of JSON where a format has lists, and only there', async () => {
    const turns = '[{""from"":""human"",\n""value"":""x""}]'
    const { rows } = await readBytes('x.csv', `conversations,tools,output\n"${turns}",,"[1]"\nnothing,"",2\n`)
    expect(rows()).toEqual([
      { conversations: [{ from: 'human', value: 'x' }], tools: null, output: '[1]' },
      { conversations: 'nothing', tools: null, output: '2' },
    ])
  })

  it.each([
    ['empty_file or no rows', 'a,b\n', 'no_rows', null],
    ['a name left out', 'a,,b\n1,2,3\n', 'no_header', 1],
    ['a name twice', 'a,b,a\n1,2,3\n', 'no_header', 1],
    ['a row for a header', `${'long '.repeat(30)},b\n1,2\n`, 'no_header', 1],
    ['too few cells', 'a,b\n1,2\n"x\ny",z\n\n3\n4,5\n', 'ragged_row', 6],
    ['too many cells', 'a,b\n1,2\n3,4,5\n', 'ragged_row', 3],
    ['a quote that stays open', 'a,b\n1,2\n3,"4\n5,6\n', 'bad_csv', 3],
    ['a quote inside a cell', 'a,b\n1,2\n3,4"5"\n', 'bad_csv', 3],
    ['text after a closing quote', 'a,b\n1,"2"x\n', 'bad_csv', 2],
    ['UTF-16', Buffer.from('\ufeffa,b\n1,2\n', 'utf16le'), 'not_text', null],
    ['Latin-1', Buffer.from('a,b\n1,2\n3,Größe\n', 'latin1'), 'invalid_utf8', 3],
    ['a character cut in two', Buffer.from('a,b\n1,ü').subarray(0, -1), 'invalid_utf8', 2],
  ])('explains %s', async (_, bytes, code, line) => {
    const { fault } = await readBytes('x.csv', bytes)
    expect(fault).toMatchObject({ code, line })
    expect(fault?.message).toMatch(/^[A-Z].{20}/)
  })

  it('hands on the rows before a fault', async () => {
    expect((await readBytes('x.csv', 'a\n1\n2\n3,4\n')).rows()).toEqual([{ a: '1' }, { a: '2' }])
  })

  it('holds no endless row', async () => {
    const { fault } = await readBytes('x.csv', `a\n"${'x'.repeat(17 * 1024 * 1024)}`)
    expect(fault).toMatchObject({ code: 'row_too_large', line: 2 })
  })

  it('holds the same rows as JSON Lines, whatever is in them', async () => {
    const cell = fc.string({ unit: fc.constantFrom('a', ',', ';', '"', '\n', '\r', '\t', ' ', 'ü', '🌅', '\\', '\0') })
    const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 20 }),
        fc.constantFrom(['x.csv', ','], ['x.csv', ';'], ['x.tsv', '\t']),
        fc.constantFrom('\n', '\r\n'),
        fc.boolean(),
        async (rows, [name = '', delimiter = ''], end, compressed) => {
          const table = [['instruction', 'output'], ...rows]
            .map((row) => row.map(quoted).join(delimiter) + end)
            .join('')
          const got = await readBytes(compressed ? `${name}.gz` : name, compressed ? gzipSync(table) : table)
          expect(got.fault).toBeNull()
          expect(got.rows()).toEqual(rows.map(([instruction, output]) => ({ instruction, output })))
          // Every row on the line where it begins: its place is the number of line breaks before it.
          const lines = got.text.split('\n')
          let at = 1
          for (const row of rows) {
            expect(JSON.parse(lines[at] ?? '')).toEqual({ instruction: row[0], output: row[1] })
            at += 1 + row.reduce((breaks, text) => breaks + text.split(/\r\n|\n|\r/).length - 1, 0)
          }
        },
      ),
      { numRuns: 60 },
    )
  })
})

describe('Parquet', async () => {
  const rows = async (name: string) => JSON.parse(await readFile(join(PARQUET, `${name}.json`), 'utf8'))

  it.each(['none', 'snappy', 'gzip', 'zstd', 'brotli', 'lz4', 'delta'])('holds the same rows: %s', async (codec) => {
    const got = await read(join(PARQUET, `alpaca.${codec}.parquet`))
    expect(got).toMatchObject({ kind: 'parquet', lines: 'records', fault: null })
    expect(got.rows()).toEqual(await rows('alpaca'))
  })

  it.each(['snappy', 'index'])('holds lists of structs: %s', async (kind) => {
    const got = await read(join(PARQUET, `messages.${kind}.parquet`))
    expect(got.fault).toBeNull()
    expect(got.rows()).toEqual(await rows('messages'))
  })

  it('is known by its first bytes, too', async () => {
    const bytes = await readFile(join(PARQUET, 'alpaca.zstd.parquet'))
    expect((await readBytes('data', bytes)).rows()).toEqual(await rows('alpaca'))
  })

  it.each([
    ['empty', 'no_rows', /no rows/],
    ['alpaca.lzo', 'unsupported_parquet', /"instruction" is compressed with LZO/],
    ['encrypted', 'unsupported_parquet', /encrypted/],
    ['encrypted-columns', 'unsupported_parquet', /encrypted/],
  ])('says what can not be read: %s', async (name, code, message) => {
    expect((await read(join(PARQUET, `${name}.parquet`))).fault).toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it('stops where it would grow too large', async () => {
    const { fault } = await read(join(PARQUET, 'alpaca.zstd.parquet'), { ...LIMITS, maxExpandedBytes: 100 })
    expect(fault).toMatchObject({ code: 'expands_too_far' })
  })
})
