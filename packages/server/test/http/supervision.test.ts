/** POST /datasets/validate with a model, and POST /datasets/preview. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../engine/fake.ts'
import { ADMIN, alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

const TURNS = [
  { from: 'human', value: 'Where is it?' },
  { from: 'gpt', value: 'It is here.' },
]

let service: Service
let url: string
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(3)))
  await writeFile(join(service.folder, 'bad.json'), JSON.stringify([...alpacaRows(3), { instruction: 7 }]))
  await writeFile(join(service.folder, 'mixed.json'), JSON.stringify([...alpacaRows(3), { conversations: TURNS }]))
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(() => service.close())

const validate = (change: object = {}, headers?: Record<string, string>) =>
  service.call('POST', '/datasets/validate', { file_path: 'data.json', model_name: './tiny', ...change }, headers)
const preview = (change: object = {}, headers?: Record<string, string>) =>
  service.call(
    'POST',
    '/datasets/preview',
    { file_path: 'data.json', model_name: './tiny', samples: [2, 0], ...change },
    headers,
  )
const log = async () =>
  await readFile(join(service.config.home, 'runs', 'inspection', 'engine.log'), 'utf8').catch(() => '')

describe('the supervision report', () => {
  test('stands beside the seed’s fields, its findings among the warnings', async () => {
    const plain = await validate({ model_name: undefined })
    expect(contractErrors('datasetsValidate', plain.body)).toEqual([])
    expect(plain.body.supervision).toBeNull()
    const { status, body } = await validate({ batch_size: 2, max_seq_length: 50 }, {})
    expect(status, JSON.stringify(body)).toBe(200)
    expect(contractErrors('datasetsValidate', body)).toEqual([])
    const { supervision, warnings, ...rest } = body
    const { supervision: _, warnings: told, ...without } = plain.body
    expect(rest).toEqual(without)
    const message = '1 row (sample 3): the answer goes on'
    expect(warnings).toEqual([...told, message])
    expect(supervision).toMatchObject({
      model_name: './tiny',
      limit: 50,
      batch_size: 2,
      tokens: { total: 10, trained: 4, masked: 3, cut: 2, unused: 1 },
      warnings: [message],
    })
  })

  test('has the defaults of a start', async () => {
    const { body } = await validate()
    expect(body.supervision).toMatchObject({ limit: 2048, batch_size: 4, refusal: null })
  })

  test('tells that a training would be refused', async () => {
    const { body } = await validate({ truncation: 'error' })
    expect(body.warnings.at(-1)).toBe('Training would be refused: one is too long')
  })

  test('of rows with errors there is none', async () => {
    const { status, body } = await validate({ file_path: 'bad.json' })
    expect([status, body.valid, body.supervision]).toEqual([200, false, null])
    expect(body.warnings.at(-1)).toMatch(/^With rows that have errors nothing is trained/)
  })

  test.each([
    [{ model_name: './nothing' }, 404, 'model_name'],
    [{ file_path: 'bad.json', model_name: './nothing' }, 404, 'model_name'],
    [{ file_path: 'none.json' }, 404, undefined],
    [{ max_seq_length: 1013 }, 400, 'model_name'],
    [{ max_seq_length: 7 }, 422, 'max_seq_length'],
    [{ loss_on: 'some' }, 422, 'loss_on'],
  ])('%j is refused', async (change, status, field) => {
    const answer = await validate(change)
    expect([answer.status, answer.body.errors?.[0].field], JSON.stringify(answer.body)).toEqual([status, field])
  })

  test('a client that leaves ends its own', async () => {
    const before = (await log()).split('inspect ').length
    const leaving = new AbortController()
    const waiting = fetch(`${url}/datasets/validate`, {
      method: 'POST',
      headers: { 'x-api-key': ADMIN, 'content-type': 'application/json' },
      body: JSON.stringify({ file_path: 'data.json', model_name: './tiny', max_seq_length: 1014 }),
      signal: leaving.signal,
    }).catch(() => 'left')
    await until(async () => (await log()).split('inspect ').length > before)
    leaving.abort()
    expect(await waiting).toBe('left')
    await until(async () => (await log()).includes('cancelled'))
    expect((await validate()).status).toBe(200)
  })

  test('without an engine: 503 with a model, 200 without', async () => {
    const bare = await createService()
    await writeFile(join(bare.folder, 'data.json'), JSON.stringify(alpacaRows(3)))
    const ask = (body: object) => bare.call('POST', '/datasets/validate', { file_path: 'data.json', ...body })
    expect((await ask({ model_name: './tiny' })).body.detail).toMatch(/^A supervision report needs the engine/)
    expect((await ask({})).status).toBe(200)
    await bare.close()
  })
})

describe('the preview', () => {
  test('shows the rows that were asked for, in their order', async () => {
    const { status, body } = await preview()
    expect(status, JSON.stringify(body)).toBe(200)
    expect(contractErrors('datasetsPreview', body)).toEqual([])
    expect(body).toEqual({
      model_name: './tiny',
      format: 'alpaca',
      rows: [2, 0].map((sample) => ({ sample, problem: 'gone', notes: [], texts: [] })),
    })
  })

  test('shows whole rows, so it needs a key', async () => {
    expect((await preview({}, {})).status).toBe(401)
    expect((await preview({}, { 'x-api-key': await service.key(['read']) })).status).toBe(200)
  })

  test.each([
    [{ samples: [] }, 422, 'samples'],
    [{ samples: Array.from({ length: 21 }, (_, i) => i) }, 422, 'samples'],
    [{ samples: [-1] }, 422, 'samples.0'],
    [{ file_path: 'mixed.json' }, 400, 'file_path'],
    [{ file_path: 'bad.json', dataset_format: 'sharegpt' }, 400, 'file_path'],
    [{ file_path: 'bad.json', model_name: './nothing' }, 404, 'model_name'],
    [{ dataset_format: 'sharegpt' }, 400, 'file_path'],
    [{ model_name: './nothing' }, 404, 'model_name'],
    [{ max_seq_length: 1013 }, 400, 'model_name'],
  ])('%j is refused', async (change, status, field) => {
    const answer = await preview(change)
    expect([answer.status, answer.body.errors?.[0].field], JSON.stringify(answer.body)).toEqual([status, field])
  })

  test('of a file with errors shows its good rows, and what is wrong with the others', async () => {
    const { status, body } = await preview({ file_path: 'bad.json', samples: [1, 3, 9] })
    expect(status, JSON.stringify(body)).toBe(200)
    expect(contractErrors('datasetsPreview', body)).toEqual([])
    expect(body.rows).toEqual([
      { sample: 1, problem: 'gone', notes: [], texts: [] },
      { sample: 3, problem: expect.stringContaining('"instruction" must be a string'), notes: [], texts: [] },
      { sample: 9, problem: 'gone', notes: [], texts: [] },
    ])
    const used = (await log()).trim().split('\n').at(-1)?.replace('preview ', '') ?? ''
    const rows = (await readFile(used, 'utf8')).trim().split('\n')
    expect(rows.map((row) => JSON.parse(row).sample)).toEqual([1])
  })

  test('reads a file again only when it, or its snapshot, has changed', async () => {
    const path = join(service.folder, 'changing.json')
    await mkdir(join(service.config.home, 'snapshots'), { recursive: true })
    const used = async () => (await log()).trim().split('\n').at(-1)
    await writeFile(path, JSON.stringify(alpacaRows(2)))
    await preview({ file_path: 'changing.json' })
    const first = await used()
    await writeFile(path, JSON.stringify(alpacaRows(5)))
    await preview({ file_path: 'changing.json' })
    const second = await used()
    expect(second).not.toBe(first)
    const snapshot = second?.replace('preview ', '') ?? ''
    expect((await readFile(snapshot, 'utf8')).trim().split('\n')).toHaveLength(5)
    await rm(snapshot)
    expect((await preview({ file_path: 'changing.json' })).status).toBe(200)
    expect((await readFile(snapshot, 'utf8')).trim().split('\n')).toHaveLength(5)
  })
})
