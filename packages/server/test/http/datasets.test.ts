import { once } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { RouteName } from '@mlx-training/contract'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADMIN, alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

const LIMIT = 1_000_000

let service: Service
beforeAll(async () => {
  service = await createService({ engine: 'echo', env: { MLX_TRAINING_MAX_UPLOAD_BYTES: String(LIMIT) } })
  await service.engine.ready()
  await putModel(join(service.folder, 'tiny'))
})
afterAll(() => service.close())

type Part = { name: string; value: string | Buffer; fileName?: string }

function multipart(parts: Part[], boundary = 'xBOUNDARYx') {
  const chunks = parts.flatMap(({ name, value, fileName }) => [
    `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${fileName === undefined ? '' : `; filename="${fileName}"`}\r\n\r\n`,
    value,
    '\r\n',
  ])
  const payload = Buffer.concat([...chunks, `--${boundary}--\r\n`].map((chunk) => Buffer.from(chunk)))
  return { payload, type: `multipart/form-data; boundary=${boundary}` }
}

async function send(path: string, payload: Buffer | string, type?: string) {
  const headers = { 'x-api-key': ADMIN, ...(type && { 'content-type': type }) }
  const response = await service.app.inject({ method: 'POST', url: path, headers, payload })
  return { status: response.statusCode, body: response.json() }
}

const upload = async (parts: Part[]) => {
  const { payload, type } = multipart(parts)
  return await send('/datasets', payload, type)
}
const jsonl = (count: number, salt = '') =>
  alpacaRows(count)
    .map((row) => `${JSON.stringify({ ...row, system: salt })}\n`)
    .join('')
const get = async (name: RouteName, path: string) => {
  const { status, body } = await service.call('GET', path)
  expect(status, JSON.stringify(body)).toBe(200)
  expect(contractErrors(name, body)).toEqual([])
  return body
}
const leftovers = async () =>
  (await readdir(join(service.config.home, 'datasets')).catch(() => [])).filter((name) => !name.startsWith('ds_'))

describe('an upload', () => {
  test('as a form: shown, listed, read, downloaded, deleted', async () => {
    const bytes = jsonl(12, 'form')
    const { status, body } = await upload([
      { name: 'format', value: 'alpaca' },
      { name: 'file', value: bytes, fileName: '..\\..\\up/../../etc/Fragen & Größen.jsonl' },
    ])
    expect(status, JSON.stringify(body)).toBe(200)
    expect(contractErrors('datasetsUpload', body)).toEqual([])
    expect(body).toMatchObject({ name: 'Fragen & Größen.jsonl', rows: 12, valid: true, already_there: false })
    const { already_there: _, ...dataset } = body
    expect(await get('datasetsGet', `/datasets/${body.id}`)).toEqual(dataset)
    const { report: __, ...summary } = dataset
    expect((await get('datasetsList', '/datasets?limit=1')).datasets).toEqual([summary])
    expect((await get('datasetsRows', `/datasets/${body.id}/rows?offset=10&limit=5`)).rows).toHaveLength(2)
    const path = `/datasets/${body.id}/content`
    const content = await service.call('GET', path)
    expect(content).toMatchObject({ status: 200, body: bytes })
    expect(content.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(Buffer.byteLength(bytes)),
      'content-disposition': `attachment; filename="Fragen & Gr__en.jsonl"; filename*=UTF-8''Fragen%20%26%20Gr%C3%B6%C3%9Fen.jsonl`,
    })
    const head = await service.app.inject({ method: 'HEAD', url: path, headers: { 'x-api-key': ADMIN } })
    expect([head.statusCode, head.headers['content-length'], head.body]).toEqual([
      200,
      String(Buffer.byteLength(bytes)),
      '',
    ])
    const deleted = await service.call('DELETE', `/datasets/${body.id}`)
    expect(deleted).toMatchObject({ status: 200, body: { id: body.id, deleted: true } })
    expect(contractErrors('datasetsDelete', deleted.body)).toEqual([])
    for (const gone of ['', '/rows', '/content'])
      expect((await service.call('GET', `/datasets/${body.id}${gone}`)).status).toBe(404)
    expect((await service.call('DELETE', `/datasets/${body.id}`)).status).toBe(404)
    expect(await readdir(join(service.config.home, 'datasets'))).not.toContain(body.id)
  })

  test('as a body: any content type, the name in the query; the same bytes are there already', async () => {
    const bytes = jsonl(11, 'body')
    const first = await send('/datasets?name=rows.jsonl', bytes, 'application/jsonl')
    expect(first).toMatchObject({ status: 200, body: { name: 'rows.jsonl', already_there: false } })
    for (const type of ['application/json', 'application/octet-stream', 'text/plain', undefined]) {
      const again = await send('/datasets?name=other.jsonl', bytes, type)
      expect(again).toMatchObject({ status: 200, body: { id: first.body.id, name: 'rows.jsonl', already_there: true } })
    }
    expect(await send('/datasets?name=rows.jsonl.gz', gzipSync(bytes))).toMatchObject({
      body: { compressed: true, rows: 11 },
    })
  })

  test('a name for people does not hide what the file is', async () => {
    const { body } = await upload([
      { name: 'file', value: 'instruction,output\nSay it well now,it\n', fileName: 'x.csv' },
      { name: 'name', value: 'My table' },
    ])
    expect(body).toMatchObject({ name: 'My table', container: 'csv', rows: 1, valid: true })
    expect((await service.call('POST', '/datasets/validate', { file_path: body.id })).body).toMatchObject({
      valid: true,
    })
  })

  test('with names of its own is read by them wherever its id is given', async () => {
    const rows = alpacaRows(12).map(
      ({ instruction, output }) => `${JSON.stringify({ frage: instruction, antwort: output })}\n`,
    )
    const columns = { prompt: 'frage', response: 'antwort' }
    const { status, body } = await upload([
      { name: 'columns', value: JSON.stringify(columns) },
      { name: 'file', value: rows.join(''), fileName: 'x.jsonl' },
    ])
    expect(status, JSON.stringify(body)).toBe(200)
    expect(contractErrors('datasetsUpload', body)).toEqual([])
    expect(body).toMatchObject({ reading: { columns }, valid: true, format: 'alpaca' })
    const query = encodeURIComponent(JSON.stringify(columns))
    expect(await send(`/datasets?name=y.jsonl&columns=${query}`, rows.join(''))).toMatchObject({
      body: { id: body.id, already_there: true },
    })
    const validated = await service.call('POST', '/datasets/validate', { file_path: body.id, validation_path: body.id })
    expect(validated.body).toMatchObject({ valid: true, validation: { valid: true, leakage: { rows: 12 } } })
    const other = { prompt: 'antwort', response: 'frage' }
    const turned = await service.call('POST', '/datasets/validate', { file_path: body.id, columns: other })
    expect(Object.keys(turned.body.sample_preview)).toEqual(['antwort', 'frage', 'input'])
    const started = await service.call('POST', '/train/start', {
      experiment_name: 'own-names',
      model_name: './tiny',
      lora: { use_lora: true },
      dataset: { dataset_path: body.id },
      output_dir: 'own-names',
    })
    expect(started).toMatchObject({ status: 200, body: { dataset_info: { format: 'alpaca', total_samples: 12 } } })
  })

  test('as a format that it is not is kept and says so', async () => {
    const { body } = await send('/datasets?name=x.jsonl&format=sharegpt', jsonl(12, 'not sharegpt'))
    expect(body).toMatchObject({
      valid: false,
      reading: { format: 'sharegpt' },
      report: { counts: { format_mismatch: 1 } },
    })
    const asked = { file_path: body.id, dataset_format: 'alpaca' }
    expect((await service.call('POST', '/datasets/validate', asked)).body).toMatchObject({ valid: true })
  })

  test.each<[string, Part[], number, RegExp]>([
    [
      'names that are no JSON',
      [
        { name: 'columns', value: 'prompt=frage' },
        { name: 'file', value: '{}', fileName: 'x' },
      ],
      422,
      /^columns must be JSON: an object of prompt, query/,
    ],
    [
      'names of unknown columns',
      [
        { name: 'file', value: '{}', fileName: 'x' },
        { name: 'tags', value: '{"role": "who"}' },
      ],
      422,
      /^tags has "role", which is not known \((did you mean role_tag|known are role_tag)/,
    ],
    ['no file', [{ name: 'name', value: 'x' }], 422, /^file is required/],
    ['a file in another field', [{ name: 'data', value: '{}', fileName: 'x.json' }], 422, /"file"/],
    ['two files', [1, 2].map((n) => ({ name: 'file', value: `{${n}}`, fileName: 'x.json' })), 400, /One file/],
    ['an unknown field', [{ name: 'colour', value: 'red' }], 422, /colour .*known are file, name/],
    [
      'a wrong format',
      [
        { name: 'format', value: 'x' },
        { name: 'file', value: '{}', fileName: 'x' },
      ],
      422,
      /one of alpaca/,
    ],
    [
      'a path for a name',
      [
        { name: 'name', value: '../x' },
        { name: 'file', value: '{}', fileName: 'x' },
      ],
      422,
      /^name must/,
    ],
    [
      'a name after the file',
      [
        { name: 'file', value: '{}', fileName: 'x' },
        { name: 'name', value: '' },
      ],
      422,
      /^name must/,
    ],
    ['too much', [{ name: 'file', value: Buffer.alloc(LIMIT + 1), fileName: 'x.json' }], 413, /1000000 bytes/],
    ['__proto__', [{ name: '__proto__', value: 'x' }], 400, /refused/],
  ])('with %s is refused and leaves nothing', async (_, parts, status, detail) => {
    expect(await upload(parts)).toMatchObject({
      status,
      body: { detail: expect.stringMatching(detail), status_code: status },
    })
    expect(await leftovers()).toEqual([])
  })

  test('without a name, or too long by its own account', async () => {
    expect(await send('/datasets', '{}')).toMatchObject({ status: 422, body: { errors: [{ field: 'name' }] } })
    expect(await send('/datasets?name=a/b', '{}')).toMatchObject({ status: 422, body: { errors: [{ field: 'name' }] } })
    expect(await send('/datasets?name=x', Buffer.alloc(LIMIT + 1))).toMatchObject({ status: 413 })
    expect(await send('/datasets', 'x', 'multipart/form-data')).toMatchObject({ status: 400 })
    expect(await leftovers()).toEqual([])
  })

  test('mangled on its way: an answer of our shape, nothing left half-done', async () => {
    const { payload, type } = multipart([
      { name: 'format', value: 'alpaca' },
      { name: 'file', value: jsonl(3, 'mangled'), fileName: 'x.jsonl' },
      { name: 'name', value: 'x' },
    ])
    const mangled = fc.oneof(
      fc.nat(payload.length).map((length) => payload.subarray(0, length)),
      fc.array(fc.tuple(fc.nat(payload.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }).map((changes) => {
        const bytes = Buffer.from(payload)
        for (const [at, value] of changes) bytes[at] = value
        return bytes
      }),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.concat([Buffer.from(bytes), payload])),
    )
    await fc.assert(
      fc.asyncProperty(
        mangled,
        fc.constantFrom(type, `${type}x`, 'multipart/form-data; boundary=""'),
        async (bytes, sent) => {
          const { status, body } = await send('/datasets', bytes, sent)
          expect([200, 400, 422], JSON.stringify(body)).toContain(status)
          if (status === 200) expect(contractErrors('datasetsUpload', body)).toEqual([])
          else expect(body).toMatchObject({ status_code: status, error_type: 'ValidationError' })
        },
      ),
      { numRuns: 150 },
    )
    expect(await leftovers()).toEqual([])
  })

  test('whose client goes away leaves nothing', async () => {
    const port = Number(new URL(await service.app.listen({ host: '127.0.0.1', port: 0 })).port)
    const { payload, type } = multipart([{ name: 'file', value: jsonl(2000, 'gone'), fileName: 'x.jsonl' }])
    const head = (path: string, more: string) =>
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ${ADMIN}\r\n${more}Content-Length: ${payload.length}\r\n\r\n`
    for (const start of [head('/datasets', `Content-Type: ${type}\r\n`), head('/datasets?name=x.jsonl', '')]) {
      const socket = connect(port, '127.0.0.1')
      await once(socket, 'connect')
      socket.write(start)
      socket.write(payload.subarray(0, payload.length / 2))
      await expect.poll(leftovers, { timeout: 10_000 }).toHaveLength(1)
      socket.destroy()
      await expect.poll(leftovers, { timeout: 10_000 }).toEqual([])
    }
    expect((await service.call('GET', '/health')).status).toBe(200)
  })
})

describe('an id of a data set', () => {
  const start = (name: string, dataset: object) =>
    service.call('POST', '/train/start', {
      experiment_name: name,
      model_name: './tiny',
      lora: { use_lora: true },
      dataset,
      output_dir: name,
    })

  test('stands for a path wherever one is asked for, and the experiments that used it are told', async () => {
    const { body: train } = await send('/datasets?name=train.jsonl', jsonl(20, 'train'))
    const { body: held } = await send('/datasets?name=held.jsonl', jsonl(10, 'held'))
    const { body: started, status } = await start('by-id', { dataset_path: train.id, validation_path: held.id })
    expect(status, JSON.stringify(started)).toBe(200)
    expect(started.dataset_info).toMatchObject({ format: 'alpaca', total_samples: 20 })
    for (const { id } of [train, held]) {
      expect((await get('datasetsGet', `/datasets/${id}`)).experiments).toEqual(['by-id'])
      const refused = await service.call('DELETE', `/datasets/${id}`)
      expect(refused).toMatchObject({ status: 409, body: { detail: expect.stringContaining('"by-id"') } })
    }
    await service.call('POST', '/train/by-id/stop')
    expect((await service.call('DELETE', `/datasets/${train.id}`)).status).toBe(200)
    expect((await service.call('GET', '/train/by-id/status')).status).toBe(200)
  })

  test('that is not there, or not valid, is told at the field that named it', async () => {
    const missing = `ds_${'0'.repeat(20)}`
    expect(await start('x', { dataset_path: missing })).toMatchObject({
      status: 404,
      body: { errors: [{ field: 'dataset.dataset_path' }] },
    })
    const { body } = await send('/datasets?name=bad.jsonl', `${jsonl(2, 'bad')}{"foo": 1}\n`)
    expect(body).toMatchObject({ valid: false })
    expect(await start('x', { dataset_path: body.id })).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining('foo'), errors: [{ field: 'dataset.dataset_path' }] },
    })
    const split = await service.call('POST', `/datasets/${body.id}/split`, { validation_share: 0.5 })
    expect(split).toMatchObject({
      status: 400,
      body: { detail: expect.stringContaining(`POST /datasets/${body.id}/clean`) },
    })
    const cleaned = await service.call('POST', `/datasets/${body.id}/clean`, { repairs: ['drop_invalid'] })
    expect(cleaned.status).toBe(200)
    expect(contractErrors('datasetsClean', cleaned.body)).toEqual([])
    expect((await start('cleaned', { dataset_path: cleaned.body.dataset.id })).status).toBe(200)
  })

  test('files of other kinds are taken by their paths as well', async () => {
    await writeFile(join(service.folder, 'x.jsonl.gz'), gzipSync(jsonl(13, 'gz')))
    await writeFile(join(service.folder, 'x.tsv'), 'instruction\toutput\nSay it well now\tit\nSay it once more\n')
    const good = await service.call('POST', '/datasets/validate', { file_path: 'x.jsonl.gz' })
    expect(good.body).toMatchObject({ valid: true, total_samples: 13 })
    const bad = await service.call('POST', '/datasets/validate', { file_path: 'x.tsv' })
    expect(bad.body).toMatchObject({
      valid: false,
      counts: { ragged_row: 1 },
      detection: expect.stringMatching(/; the file is TSV$/),
    })
    expect(bad.body.errors[0]).toMatch(/^Line 3: The row has 1 cell, but the header names 2 columns/)
    expect(await start('gz', { dataset_path: 'x.jsonl.gz' })).toMatchObject({
      status: 200,
      body: { dataset_info: { total_samples: 13 } },
    })
  })
})

test('the list goes on page by page', async () => {
  const ids: string[] = []
  for (let after = ''; ; ) {
    const body = await get('datasetsList', `/datasets?limit=2${after}`)
    ids.push(...body.datasets.map(({ id }: { id: string }) => id))
    if (body.next === null) break
    expect(body.datasets).toHaveLength(2)
    after = `&after=${body.next}`
  }
  expect(ids.length).toBeGreaterThan(4)
  expect(new Set(ids).size).toBe(ids.length)
  expect((await service.call('GET', `/datasets?after=ds_${'0'.repeat(20)}`)).status).toBe(404)
})

test('a split over HTTP is as the contract has it', async () => {
  const { body } = await send('/datasets?name=s.jsonl', jsonl(40, 'split'))
  const split = await service.call('POST', `/datasets/${body.id}/split`, { validation_share: 0.25 })
  expect(split.status).toBe(200)
  expect(contractErrors('datasetsSplit', split.body)).toEqual([])
  expect(split.body.train.rows + split.body.validation.rows).toBe(40)
})
