import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADMIN, createService, type Service } from './service.ts'

let service: Service
beforeAll(async () => {
  service = await createService()
})
afterAll(() => service.close())

const json = { 'x-api-key': ADMIN, 'content-type': 'application/json' }
const START = { experiment_name: 'a', model_name: 'm', dataset: { dataset_path: 'd' } }

/** status, error_type and a part of the detail */
async function expectError(
  [method, url, body, headers]: Parameters<Service['call']>,
  [status, type, detail]: [number, string, string | RegExp],
) {
  const answer = await service.call(method, url, body, headers)
  expect(answer.body).toMatchObject({ status_code: status, error_type: type, detail: expect.stringMatching(detail) })
  expect(answer.status).toBe(status)
  expect(answer.headers['x-request-id']).toMatch(/^req_/)
  return answer
}

describe('routes', () => {
  test('an unknown one names the nearest', async () => {
    await expectError(['GET', '/'], [404, 'NotFoundError', 'There is no GET /; GET /docs shows what there is'])
    await expectError(['GET', '/helth'], [404, 'NotFoundError', 'did you mean GET /health'])
    await expectError(['POST', '/trian/start', {}], [404, 'NotFoundError', 'did you mean POST /train/start'])
    await expectError(['GET', '/train/mine/statsu'], [404, 'NotFoundError', 'did you mean GET /train/mine/status'])
    await expectError(['GET', '/train/'], [404, 'NotFoundError', 'did you mean GET /train'])
    await expectError(['GET', '/somewhere/else'], [404, 'NotFoundError', 'GET /openapi.json lists'])
  })

  test('a wrong method names the right ones, in Allow too', async () => {
    const start = await expectError(
      ['GET', '/train/start'],
      [405, 'MethodNotAllowedError', 'answers POST, DELETE, not GET$'],
    )
    expect(start.headers.allow).toBe('POST, DELETE')
    const slip = [405, 'MethodNotAllowedError', 'answers DELETE, not POST; did you mean POST /train/start\\?'] as const
    await expectError(['POST', '/train/strat', {}], [...slip])
    const list = await expectError(['DELETE', '/train'], [405, 'MethodNotAllowedError', 'GET, HEAD'])
    expect(list.headers.allow).toBe('GET, HEAD')
    await expectError(['POST', '/docs', {}], [405, 'MethodNotAllowedError', 'GET'])
    await expectError(['POST', '/openapi.json', {}], [405, 'MethodNotAllowedError', 'GET'])
    await expectError(['GET', '/docs/static/none.js'], [404, 'NotFoundError', 'There is no GET /docs/static/none.js'])
  })

  test('malformed and overlong URLs', async () => {
    await expectError(['GET', '/train/%zz/status'], [400, 'ValidationError', '%'])
    await expectError(['GET', `/train/${'a'.repeat(400)}/status`], [422, 'ValidationError', 'too long'])
    await expectError(['GET', `/${'a'.repeat(4000)}`], [404, 'NotFoundError', 'There is no'])
  })
})

test('files of the documentation, asked for in odd ways', async () => {
  const file = '/docs/static/swagger-ui.css'
  const ask = async (headers: Record<string, string>, url = file) =>
    (await service.call('GET', url, undefined, headers)).status
  expect(await ask({})).toBe(200)
  for (const headers of [{ range: 'bytes=99999999-' }, { range: 'bytes=5-1' }, { 'if-match': '"x"' }] as Record<
    string,
    string
  >[])
    expect(await ask(headers)).toBeLessThan(500)
  for (const path of ['..%2f..%2fpackage.json', '%00', '....//x', '.hidden', '%5c..'])
    expect(await ask({}, `/docs/static/${path}`)).toBeGreaterThanOrEqual(400)
})

describe('JSON', () => {
  test.each([
    ['{"a": 1,}', 'line 1, column 9'],
    ['{\n  "a": tru\n}', 'line 2, column 8'],
    ['{"a": 1', 'ends too early'],
    ['{"a" 1}', 'position 5'],
    ['[1, 2', 'ends too early'],
    ['{"a": 01}', 'position 7'],
    ["{'a': 1}", 'position 1'],
    ['{"a": "\n"}', 'position 6'],
    ['{} {}', 'position 3'],
    ['nothing', 'position 0'],
  ])('%j: where it is wrong', async (body, where) => {
    await expectError(['POST', '/generate', body], [400, 'InvalidJSONError', where])
  })

  test('prototype poisoning, bytes that are no UTF-8', async () => {
    const poison = '{"prompt": "x", "__proto__": {"a": 1}}'
    await expectError(['POST', '/generate', poison], [400, 'InvalidJSONError', '__proto__'])
    const nested = '{"prompt": "x", "a": {"constructor": {"prototype": {}}}}'
    await expectError(['POST', '/generate', nested], [400, 'InvalidJSONError', 'constructor'])
    const response = await service.app.inject({
      method: 'POST',
      url: '/generate',
      headers: json,
      payload: Buffer.from('{"prompt": "\xff"}', 'latin1'),
    })
    expect(response.json()).toMatchObject({ status_code: 400, detail: 'The body is not valid UTF-8' })
  })

  test('half of a surrogate pair, which JSON can spell but no UTF-8 holds, names its field', async () => {
    for (const [body, field] of [
      ['{"prompt": "a \\ud800 b"}', 'prompt'],
      ['{"prompt": "x", "stop": ["y", "\\uDFFF"]}', 'stop.1'],
      ['{"prompt": "x", "messages": [{"role": "user", "content": "\\ud83d"}]}', 'messages.0.content'],
    ] as const)
      await expectError(
        ['POST', '/generate', body],
        [422, 'ValidationError', `${field} holds half of a surrogate pair`],
      )
    const whole = await service.app.inject({
      method: 'POST',
      url: '/generate',
      headers: json,
      payload: '{"prompt": "\\ud83d\\ude00", "max_tokens": 0}',
    })
    expect(whole.json()).toMatchObject({ errors: [{ field: 'max_tokens' }] })
  })

  test('a byte order mark is let in', async () => {
    await expectError(['POST', '/generate', '\ufeff{}'], [422, 'ValidationError', 'prompt'])
  })

  test('too large, of another type, compressed', async () => {
    const large = { prompt: 'x'.repeat(1024 * 1024) }
    await expectError(['POST', '/generate', large], [413, 'PayloadTooLargeError', '1 MiB'])
    const form = { ...json, 'content-type': 'application/x-www-form-urlencoded' }
    await expectError(['POST', '/generate', 'a=1', form], [415, 'UnsupportedMediaTypeError', 'application/json'])
    const text = { ...json, 'content-type': 'text/plain' }
    await expectError(['POST', '/generate', '{}', text], [415, 'UnsupportedMediaTypeError', 'application/json'])
    const none = { ...json, 'content-type': 'garbage' }
    await expectError(['POST', '/datasets', '{}', none], [415, 'UnsupportedMediaTypeError', 'multipart/form-data'])
    const gzip = { ...json, 'content-encoding': 'gzip' }
    await expectError(['POST', '/generate', '{}', gzip], [415, 'UnsupportedMediaTypeError', 'Content-Encoding'])
  })

  test('no body where one is needed', async () => {
    await expectError(['POST', '/generate'], [422, 'ValidationError', 'body must be a JSON object, and is empty'])
    await expectError(
      ['POST', '/generate', '', json],
      [422, 'ValidationError', 'body must be a JSON object, and is empty'],
    )
  })

  test('a body that is nested as deep as its size allows', async () => {
    const deep = `{"messages": ${'['.repeat(400_000)}${']'.repeat(400_000)}}`
    await expectError(
      ['POST', '/generate', deep],
      [422, 'ValidationError', 'messages.0 must be an object, not a list of 1'],
    )
  })
})

describe('fields', () => {
  const start = (change: object) => ['POST', '/train/start', { ...START, ...change }] as Parameters<Service['call']>

  test('a wrong type: field, what is expected, what was given', async () => {
    const { body } = await expectError(start({ epochs: '3' }), [
      422,
      'ValidationError',
      'epochs must be a whole number, not the text "3"',
    ])
    expect(body.errors).toEqual([{ field: 'epochs', message: 'must be a whole number, not the text "3"', given: '3' }])
    await expectError(start({ lora: { lora_r: 1.5 } }), [422, 'ValidationError', 'lora.lora_r must be a whole number'])
    await expectError(start({ lora: { use_lora: 'yes' } }), [422, 'ValidationError', 'must be true or false'])
  })

  test('several at once, each with its field', async () => {
    const { body } = await expectError(
      start({ epochs: 0, learning_rate: -1, dataset: { dataset_format: 'alpacca', batch_size: null } }),
      [422, 'ValidationError', 'and 2 more'],
    )
    expect(body.errors.map(({ field }: { field: string }) => field).sort()).toEqual([
      'dataset.batch_size',
      'dataset.dataset_format',
      'dataset.dataset_path',
      'epochs',
      'learning_rate',
    ])
  })

  test('an unknown one: the one that was meant, in other objects too', async () => {
    await expectError(start({ lora: { lora_rr: 8 } }), [422, 'ValidationError', 'lora.lora_rr .* mean lora_r\\?'])
    await expectError(start({ lora_r: 8 }), [422, 'ValidationError', 'lora_r is not a known field .*lora.lora_r'])
    await expectError(start({ epochs: 1, nonsense_everywhere: 1 }), [
      422,
      'ValidationError',
      'known are experiment_name',
    ])
    await expectError(start({ dataset: { dataset_path: 'd', dataset_format: 'alpacca' } }), [
      422,
      'ValidationError',
      'one of alpaca, sharegpt, openai, prompt_completion, text, not the text "alpacca" .did you mean alpaca',
    ])
  })

  test('a union, a name that is no name', async () => {
    const { body } = await expectError(
      ['POST', '/generate', { prompt: 'x', stop: 5 }],
      [422, 'ValidationError', 'stop must be text or a list, not 5'],
    )
    expect(body.errors).toHaveLength(1)
    await expectError(start({ experiment_name: '../up' }), [422, 'ValidationError', 'can\'t be the text "../up"'])
    await expectError(['GET', '/train/a%20b/status'], [422, 'ValidationError', 'can\'t be the text "a b"'])
    await expectError(['GET', '/train/a/events?after=x'], [422, 'ValidationError', 'after must be a whole number'])
    await expectError(['GET', '/train/a/events?afer=1'], [422, 'ValidationError', 'did you mean after'])
  })

  test('what was given is shortened, and the list of errors as well', async () => {
    const { body } = await expectError(start({ experiment_name: 'x'.repeat(5000) }), [422, 'ValidationError', '…'])
    expect(JSON.stringify(body).length).toBeLessThan(2000)
    const wrong = (length: number) => ({ messages: Array.from({ length }, () => 1) })
    expect((await service.call('POST', '/generate', wrong(500))).body.errors).toHaveLength(20)
    // All half a million of them would be looked for in seconds, in which nobody else is served.
    expect((await service.call('POST', '/generate', wrong(500_000))).body.errors).toHaveLength(1)
  })
})

test('an experiment that is not there', async () => {
  for (const [method, path] of [
    ['GET', 'status'],
    ['GET', 'events'],
    ['POST', 'stop'],
    ['POST', 'pause'],
    ['POST', 'resume'],
  ] as const)
    await expectError([method, `/train/nobody/${path}`], [404, 'NotFoundError', '"nobody".*GET /train lists'])
})

test('a crash of ours tells nothing of its inside, but under which id the log has it', async () => {
  const broken = await createService()
  await broken.store.close()
  const { status, body } = await broken.call('GET', '/train')
  expect(status).toBe(500)
  expect(body).toMatchObject({
    status_code: 500,
    error_type: 'InternalServerError',
    request_id: expect.stringMatching(/^req_/),
  })
  expect(JSON.stringify(body)).not.toMatch(/sqlite|database|driver|at .*\.ts/i)
  expect(broken.logged.some((line) => line.includes(body.request_id) && line.includes('"stack"'))).toBe(true)
  await broken.close()
})
