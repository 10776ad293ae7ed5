import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createClientPaths } from '../../src/files/client-paths.ts'
import { alpacaRows, check, lines, serviceWith, temporaryFolder } from './helpers.ts'

const good = lines(...alpacaRows(12))
const isRoot = process.getuid?.() === 0

describe('what is no file', () => {
  it.each<[string, (path: string) => void, string, RegExp]>([
    ['a folder', (path) => mkdirSync(path), 'invalid_path', /is a folder, not a regular file/],
    ['a FIFO', (path) => execFileSync('mkfifo', [path]), 'invalid_path', /is a FIFO, not a regular file/],
    ['a link to a device', (path) => symlinkSync('/dev/zero', path), 'forbidden', /outside the folders/],
    ['a link into /proc', (path) => symlinkSync('/proc/self/environ', path), 'forbidden', /outside the folders/],
    ['a link to itself', (path) => symlinkSync(path, path), 'not_found', /No file at/],
  ])('%s', async (_, make, code, message) => {
    const { folder, datasets } = await serviceWith(good)
    make(join(folder, 'x.jsonl'))
    await expect(datasets.validate('x.jsonl')).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  it('/proc and /dev, with the whole machine as a root', async () => {
    const paths = createClientPaths('/')
    for (const path of ['/proc/self/mem', '/dev/zero', '/sys/power/state'])
      await expect(paths.openFile(path, ['/'])).rejects.toMatchObject({ code: 'forbidden' })
  })

  it.skipIf(isRoot)('what may not be read', async () => {
    const { folder, datasets, name } = await serviceWith(good)
    chmodSync(join(folder, name), 0)
    await expect(datasets.validate(name)).rejects.toMatchObject({ code: 'forbidden' })
  })
})

describe('what is no text of rows', () => {
  const utf16 = (order: 'le' | 'be') => {
    const bytes = Buffer.from(`\ufeff${good}`, 'utf16le')
    return order === 'le' ? bytes : bytes.swap16()
  }
  it.each<[string, Buffer | string, string]>([
    ['nothing', '', 'empty_file'],
    ['blanks', '\n \r\n', 'empty_file'],
    ['UTF-16, little end first', utf16('le'), 'not_text'],
    ['UTF-16, big end first', utf16('be'), 'not_text'],
    ['NUL bytes', Buffer.alloc(5000), 'not_json'],
    ['a picture', Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), 'not_json'],
    ['half a row', good.slice(0, -20), 'invalid_json'],
    ['half an array', JSON.stringify(alpacaRows(12)).slice(0, -20), 'truncated_array'],
    ['a row with NUL bytes', `${good}{"instruction": "a\0b", "output": "c"}\n`, 'invalid_json'],
    ['Latin-1', Buffer.concat([Buffer.from(good), Buffer.from('{"text": "caf\xe9"}\n', 'latin1')]), 'invalid_utf8'],
    ['UTF-8 that ends inside a character', Buffer.from('{"text": "caf\u00e9').subarray(0, -1), 'invalid_utf8'],
    ['surrogates in UTF-8', Buffer.from('{"text": "\xed\xa0\x80"}\n', 'latin1'), 'invalid_utf8'],
  ])('%s', (_, file, code) => {
    const report = check(file)
    expect(report.valid).toBe(false)
    const issue = report.issues.find((each) => each.code === code)
    expect(issue?.message).toMatch(/\w/)
    if (issue?.sample !== null) expect(issue?.offset).toBeGreaterThanOrEqual(0)
  })

  it.each([
    ['a byte order mark', `\ufeff${good}`, { byte_order_mark: 1 }],
    ['CRLF', good.replaceAll('\n', '\r\n'), {}],
    ['a last line without end', good.trimEnd(), {}],
  ])('but with %s it is', (_, file, counts) => {
    expect(check(file)).toMatchObject({ valid: true, total_samples: 12, counts })
  })
})

describe('what is too much', () => {
  it('one line of 1 GB takes no memory, and the rows after it are read', async () => {
    const { folder, datasets } = await serviceWith(good)
    const path = join(folder, 'x.jsonl')
    writeFileSync(path, '{"text": "')
    // Sparse: NUL bytes that take no room on the disk.
    truncateSync(path, 1024 ** 3)
    await writeFile(path, `"}\n${good}`, { flag: 'a' })
    const before = process.memoryUsage().rss
    const report = await datasets.validate('x.jsonl')
    expect(report).toMatchObject({ total_samples: 13, valid_samples: 12, counts: { row_too_large: 1 } })
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024)
  }, 60_000)

  it.each<[string, string, string]>([
    ['a number of 100,000 digits', `{"instruction": ${'9'.repeat(100_000)}, "output": "x"}\n`, 'wrong_type'],
    [
      'numbers of it beside the texts',
      `{"instruction": "Name it now.", "output": "x", "n": ${'9'.repeat(100_000)}}\n`,
      'unknown_key',
    ],
    ['eight million brackets', `{"text": ${'['.repeat(8_000_000)}`, 'nested_too_deep'],
    ['objects in objects', `{"text": "x", "a": ${'{"a":'.repeat(30_000)}1${'}'.repeat(30_000)}}\n`, 'nested_too_deep'],
    ['five million objects', `{"text": "x", "a": [${'{},'.repeat(5_000_000)}1]}\n`, 'row_too_large'],
    ['__proto__', '{"__proto__": {"text": "x"}}\n', 'unknown_format'],
    ['__proto__ beside the texts', '{"text": "x", "__proto__": {"train": false}}\n', 'unknown_key'],
  ])('%s', (_, file, code) => {
    const report = check(file, {}, [65_536])
    expect(Object.keys(report.counts)).toContain(code)
    expect(JSON.stringify(report).length).toBeLessThan(5_000)
    expect(Object.hasOwn(Object.prototype, 'text')).toBe(false)
  })
})

it('a file that grows while it is read is told as such', async () => {
  const folder = await temporaryFolder()
  const path = join(folder, 'x.jsonl')
  await writeFile(path, lines(...alpacaRows(60_000)))
  const handle = await open(path)
  const { Source } = await import('../../src/datasets/containers/source.ts')
  const { Pass, runPass } = await import('../../src/datasets/pass.ts')
  const source = await Source.of(handle.fd, path)
  const pass = new Pass({ size: source.size })
  const report = await runPass(source.chunks(), pass, async () => writeFile(path, good, { flag: 'a' }))
  await handle.close()
  expect(report.issues[0]).toMatchObject({ code: 'file_changed', sample: null })
})
