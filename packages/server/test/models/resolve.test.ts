import { mkdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { parseHubName } from '../../src/models/names.ts'
import { COMMIT, HubServer, modelFiles, safetensors, TOKEN } from './hub-server.ts'
import { createWorld, removeWorlds } from './setup.ts'

afterEach(removeWorlds)

describe('names', () => {
  it('takes org/name[@revision]', () => {
    expect(parseHubName('mlx-community/Qwen2.5-1.5B-4bit')).toEqual({
      repo: 'mlx-community/Qwen2.5-1.5B-4bit',
      revision: null,
    })
    expect(parseHubName('a/b@v1.0')).toEqual({ repo: 'a/b', revision: 'v1.0' })
    expect(parseHubName('a/b@refs/pr/1')).toEqual({ repo: 'a/b', revision: 'refs/pr/1' })
  })

  it.each([
    'https://evil.example/a/b',
    'evil.example:80/b',
    'a/b/c',
    'a/..',
    '../b',
    'a/b@../../x',
    'a/b@x//y',
    'a/b@',
    'a/b@x@y',
    'a--b/c',
    'a/b.git',
    'a/b?x=1',
    'a/b#x',
    'a/b%2e',
    'a\\b/c',
    ' a/b',
    'a/b\n',
    'model',
    '',
  ])('refuses %j', (name) => expect(parseHubName(name)).toBeNull())

  it('gives only what is one folder and one URL segment, whatever is asked', () => {
    const piece = fc.oneof(fc.constantFrom('..', '.', '/', '--', '@', ':', '%2f', 'a', 'B9', '\\', '\0'), fc.string())
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const parsed = parseHubName(pieces.join(''))
        if (!parsed) return
        const url = new URL(`http://hub/${parsed.repo}/resolve/${parsed.revision ?? 'main'}/f`)
        expect(url.host).toBe('hub')
        expect(url.pathname).toBe(`/${parsed.repo}/resolve/${parsed.revision ?? 'main'}/f`)
        expect(join('/c', `models--${parsed.repo.replace('/', '--')}`, 'refs', parsed.revision ?? 'main')).toMatch(
          /^\/c\/models--[^/]+\/refs\/./,
        )
      }),
      { numRuns: 2000 },
    )
  })
})

describe('resolve', () => {
  it('finds the bundled model by its name in any case, before all else', async () => {
    const { models, put } = await createWorld()
    expect(models.bundled).toBeNull()
    await put('bundled/Another', modelFiles())
    const path = await put('bundled/SmolLM2-135M-Instruct', modelFiles())
    expect(models.bundled).toBe('SmolLM2-135M-Instruct')
    const ref = { kind: 'folder', name: 'SmolLM2-135M-Instruct', path }
    expect(await models.resolve('SmolLM2-135M-Instruct')).toEqual(ref)
    expect(await models.resolve('smollm2-135m-instruct')).toEqual(ref)
  })

  it('prefers the home folder, then a model folder, then the cache', async () => {
    const { models, put, root } = await createWorld()
    const cached = await put(`hub/models--org--m/snapshots/${COMMIT}`, modelFiles())
    await put('hub/models--org--m/refs', { main: COMMIT, v1: COMMIT })
    expect(await models.resolve('org/m')).toEqual({ kind: 'folder', name: 'org/m', path: cached })
    expect(await models.resolve('org/m@v1')).toMatchObject({ path: cached })
    expect(await models.resolve(`org/m@${COMMIT}`)).toMatchObject({ path: cached })

    const home = await put('home/models/org/m', modelFiles())
    expect(await models.resolve('org/m')).toEqual({ kind: 'folder', name: 'org/m', path: home })
    expect(await models.resolve('org/m@v1')).toMatchObject({ path: cached })

    const local = await put('shelf/other', modelFiles())
    expect(await models.resolve('shelf/other')).toMatchObject({ path: local })
    expect(await models.resolve('./shelf/other')).toMatchObject({ name: './shelf/other', path: local })
    expect(await models.resolve(join(root, 'shelf/other'))).toMatchObject({ path: local })
  })

  it('keeps to the model roots, symlinks followed', async () => {
    const { models, put, root } = await createWorld()
    const outside = await put('elsewhere/m', modelFiles())
    await mkdir(join(root, 'shelf'))
    await symlink(outside, join(root, 'shelf', 'link'))
    for (const name of [outside, './elsewhere/m', '../x', 'shelf/../elsewhere/m', './shelf/link'])
      await expect(models.resolve(name), name).rejects.toMatchObject({
        code: expect.stringMatching(/forbidden|not_found/),
      })
    await expect(models.resolve(outside)).rejects.toMatchObject({ code: 'forbidden' })
    await expect(models.resolve('../model.gguf')).rejects.toThrow(/add a folder to MLX_TRAINING_MODEL_ROOTS/)
    await expect(models.resolve('elsewhere/m')).rejects.toMatchObject({ code: 'unavailable' })
    await expect(models.resolve('./shelf/nothing')).rejects.toMatchObject({ code: 'not_found' })
  })

  it.each<[string, Record<string, Buffer | string | undefined>, RegExp]>([
    [
      'remote code',
      { 'config.json': '{"model_type":"x","auto_map":{"AutoModel":"m.M"}}' },
      /"auto_map" in config\.json/,
    ],
    ['a model file', { 'config.json': '{"model_type":"x","model_file":"m.py"}' }, /"model_file" in config\.json/],
    [
      'remote code in the tokenizer',
      { 'tokenizer_config.json': '{"auto_map":{}}' },
      /"auto_map" in tokenizer_config\.json/,
    ],
    ['no model_type', { 'config.json': '{}' }, /no usable "model_type"/],
    ['a model_type that is a path', { 'config.json': '{"model_type":"../../x"}' }, /no usable "model_type"/],
    ['a broken config', { 'config.json': '[' }, /config\.json that is not a JSON object/],
    [
      'only pickles',
      { 'model.safetensors': undefined },
      /only pickled weights \(pytorch_model\.bin\).*mlx_lm\.convert/,
    ],
    [
      'no weights',
      { 'model.safetensors': undefined, 'pytorch_model.bin': undefined },
      /no weights named model\*\.safetensors/,
    ],
    ['no tokenizer', { 'tokenizer.json': undefined }, /no tokenizer/],
    [
      'cut weights',
      { 'model.safetensors': safetensors(100).subarray(0, 300) },
      /damaged or incomplete model\.safetensors/,
    ],
    [
      'a cut header',
      { 'model.safetensors': safetensors(100).subarray(0, 20) },
      /damaged or incomplete model\.safetensors/,
    ],
    ['empty weights', { 'model.safetensors': '' }, /damaged or incomplete model\.safetensors/],
    [
      'a missing shard',
      { 'model.safetensors': undefined, 'model-00001-of-00002.safetensors': safetensors(4) },
      /lacks its weights file "model-00002-of-00002\.safetensors"/,
    ],
    [
      'an index that names more',
      { 'model.safetensors.index.json': '{"weight_map":{"a":"model-7.safetensors"}}' },
      /lacks its weights file "model-7\.safetensors"/,
    ],
    ['an adapter', { 'config.json': undefined, 'adapters.safetensors': safetensors(4) }, /holds an adapter/],
    ['a GGUF file', { 'config.json': undefined, 'm.gguf': 'GGUF' }, /give the path of that file/],
  ])('refuses a folder with %s', async (_, change, reason) => {
    const { models, put } = await createWorld()
    const files = Object.entries({ ...modelFiles(), ...change }).filter(
      (entry): entry is [string, Buffer | string] => entry[1] !== undefined,
    )
    await put('shelf/m', Object.fromEntries(files))
    await expect(models.resolve('./shelf/m')).rejects.toMatchObject({
      code: 'invalid_parameters',
      message: expect.stringMatching(reason),
    })
  })

  it('says what a path is that is no model, instead of asking the hub', async () => {
    const world = await createWorld()
    await world.put('shelf/org', { 'data.json': '[]', 'adapter/adapter_config.json': '{}' })
    for (const [name, code, what] of [
      ['shelf/org/data.json', 'invalid_parameters', 'is a file, not a model'],
      ['./shelf/org/data.json', 'invalid_parameters', 'is a file, not a model'],
      ['shelf/org/adapter', 'invalid_parameters', 'adapter.*fine-tuned/EXPERIMENT.*resume_from'],
      ['./shelf/org/adapter', 'invalid_parameters', 'is the folder of an adapter'],
      ['./shelf/none', 'not_found', 'There is no folder'],
      ['/etc/passwd', 'forbidden', 'MLX_TRAINING_MODEL_ROOTS'],
    ] as const)
      await expect(world.models.resolve(name), name).rejects.toMatchObject({
        code,
        message: expect.stringMatching(what),
      })
  })

  it('refuses fine-tuned models as a base', async () => {
    const { models } = await createWorld()
    await expect(models.resolve('fine-tuned/x')).rejects.toMatchObject({ code: 'invalid_parameters' })
  })

  it('tells what was tried when there is no such model', async () => {
    const { models, put } = await createWorld({ offline: true })
    await put('bundled/SmolLM2-135M-Instruct', modelFiles())
    await expect(models.resolve('SmolLM3')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(
        /"SmolLM3".*bundled models \(SmolLM2-135M-Instruct\).*MLX_TRAINING_MODEL_ROOTS.*not of the form org\/name/,
      ),
    })
    await expect(models.resolve('org/m')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(
        /bundled.*models\/org\/m in MLX_TRAINING_HOME.*MODEL_ROOTS.*Hugging Face cache; .*HF_HUB_OFFLINE.*GET \/models/,
      ),
    })
  })

  it('says that the hub is unreachable, but not when the model is here', async () => {
    const { models, put } = await createWorld()
    await expect(models.resolve('org/m')).rejects.toMatchObject({
      code: 'unavailable',
      retryAfter: 30,
      message: expect.stringMatching(/http:\/\/127\.0\.0\.1:\d+ could not be reached \(ECONNREFUSED\)/),
    })
    await put(`hub/models--org--m/snapshots/${COMMIT}`, modelFiles())
    expect(await models.resolve(`org/m@${COMMIT}`)).toMatchObject({ kind: 'folder' })
  })
})

describe('resolve at the hub', () => {
  const ask = async (
    name: string,
    repository: Parameters<HubServer['repositories']['set']>[1] | null,
    token?: string,
  ) => {
    const hub = await HubServer.start()
    try {
      if (repository) hub.repositories.set('org/m', repository)
      return await (await createWorld({ hub: hub.url, token })).models.resolve(name)
    } finally {
      await hub.stop()
    }
  }
  const files = modelFiles()

  it('pins the commit', async () => {
    expect(await ask('org/m@v1', { files })).toEqual({ kind: 'hub', name: 'org/m@v1', repo: 'org/m', revision: COMMIT })
  })

  it('tells what is missing, gated or private', async () => {
    await expect(ask('org/m', null)).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('set HF_TOKEN'),
    })
    await expect(ask('org/m', null, TOKEN)).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('no such repository'),
    })
    await expect(ask('org/m@v9', { files })).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('revision'),
    })
    await expect(ask('org/m', { files, access: 'private' })).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('HF_TOKEN'),
    })
    expect(await ask('org/m', { files, access: 'private' }, TOKEN)).toMatchObject({ kind: 'hub' })
    await expect(ask('org/m', { files, access: 'gated' })).rejects.toMatchObject({
      code: 'forbidden',
      message: expect.stringMatching(/gated: accept its terms at http.*\/org\/m and set HF_TOKEN/),
    })
    await expect(ask('org/m', { files, access: 'gated' }, 'hf_other')).rejects.toMatchObject({ code: 'forbidden' })
    expect(await ask('org/m', { files, access: 'gated' }, TOKEN)).toMatchObject({ kind: 'hub' })
  })

  it('refuses what could not be used, before anything is downloaded', async () => {
    const { 'model.safetensors': _, ...pickled } = files
    await expect(ask('org/m', { files: pickled })).rejects.toMatchObject({
      code: 'invalid_parameters',
      message: expect.stringContaining('pytorch_model.bin'),
    })
    for (const config of ['[', '[]', Buffer.alloc(33 * 2 ** 20, ' ')])
      await expect(ask('org/m', { files: { ...files, 'config.json': config } })).rejects.toMatchObject({
        code: 'invalid_parameters',
        message: expect.stringMatching(/config\.json that is not a JSON object|more than 32 MiB/),
      })
    await expect(ask('org/m', { files: { 'm.gguf': 'GGUF' } })).rejects.toMatchObject({
      message: expect.stringContaining('GGUF'),
    })
    await expect(
      ask('org/m', { files: { ...files, 'config.json': '{"model_type":"x","auto_map":{"AutoModel":"m.M"}}' } }),
    ).rejects.toMatchObject({
      code: 'invalid_parameters',
      message: expect.stringContaining('"auto_map"'),
    })
  })
})

describe('GGUF files', () => {
  it('are imported once, again when they change, and listed', async () => {
    const imports: string[] = []
    let writeFolder = async (_: string) => {}
    const world = await createWorld({
      importGguf: async (_, output, onStage) => {
        imports.push(output)
        onStage?.({ type: 'stage', stage: 'dequantizing', done: 1, total: 2 })
        await writeFolder(output)
        return output
      },
    })
    writeFolder = async (output) => void (await world.put(output.slice(world.root.length), modelFiles(4)))
    const folder = await world.put('shelf', { 'My Model.Q4_1.gguf': 'GGUF\x03', 'fake.gguf': 'PK' })
    const ref = await world.models.resolve('./shelf/My Model.Q4_1.gguf')
    expect(ref).toEqual({ kind: 'gguf', name: './shelf/My Model.Q4_1.gguf', path: join(folder, 'My Model.Q4_1.gguf') })

    const told: unknown[][] = []
    const [path, same] = await Promise.all([
      world.models.ensure(ref, { onProgress: (...progress) => told.push(progress) }),
      world.models.ensure(ref, {}),
    ])
    expect(same).toBe(path)
    expect(await world.models.ensure(ref, {})).toBe(path)
    expect(imports).toEqual([path])
    expect(told).toEqual([['dequantizing', 1, 2]])
    const [listed] = await world.models.list()
    expect(listed).toMatchObject({ id: expect.stringMatching(/^gguf\/My-Model-Q4_1-[0-9a-f]{16}$/), source: 'local' })
    expect(await world.models.resolve(listed?.id ?? '')).toMatchObject({ kind: 'folder', path })

    await utimes(join(folder, 'My Model.Q4_1.gguf'), 1, 1)
    expect(await world.models.ensure(ref, {})).not.toBe(path)
    expect(imports).toHaveLength(2)

    await expect(world.models.resolve('./shelf/fake.gguf')).rejects.toMatchObject({ code: 'invalid_parameters' })
    await expect(world.models.resolve('./shelf/none.gguf')).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('list', () => {
  it('shows complete models of every source, and no others', async () => {
    const { models, put, root } = await createWorld()
    await put('bundled/SmolLM2-135M-Instruct', { ...modelFiles(), 'config.json': '{"model_type":"llama"}' })
    await put('home/models/org/mine', modelFiles())
    await put('home/models/org/broken', { ...modelFiles(), 'model.safetensors': 'cut' })
    await put(`hub/models--org--m/snapshots/${COMMIT}`, modelFiles())
    await put('hub/models--org--m/refs', { main: COMMIT })
    const other = '1'.repeat(40)
    await put(`hub/models--org--m/snapshots/${other}`, {
      ...modelFiles(),
      'config.json': '{"model_type":"qwen2","quantization_config":{"quant_method":"fp8"}}',
    })
    await put('hub/models--org--part/snapshots/2222222222222222222222222222222222222222', {
      'config.json': '{"model_type":"llama"}',
    })
    await put('hub/datasets--org--d/snapshots/2222222222222222222222222222222222222222', modelFiles())
    await mkdir(join(root, 'hub', '.locks'))
    await writeFile(join(root, 'hub', 'version.txt'), '1')

    const listed = await models.list()
    expect(
      listed.map(({ id, source, architecture, quantization }) => [id, source, architecture, quantization]),
    ).toEqual([
      ['SmolLM2-135M-Instruct', 'bundled', 'llama', null],
      ['org/mine', 'local', 'llama', '4-bit'],
      [`org/m@${other}`, 'hub_cache', 'qwen2', 'fp8'],
      ['org/m', 'hub_cache', 'llama', '4-bit'],
    ])
    const size = Object.entries(modelFiles()).reduce(
      (sum, [name, content]) => sum + (name.includes('/') ? 0 : Buffer.byteLength(content)),
      0,
    )
    expect(listed[1]?.size_bytes).toBe(size)
    for (const { id } of listed) expect(await models.resolve(id)).toMatchObject({ kind: 'folder' })
  })
})
