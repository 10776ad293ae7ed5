import { describe, expect, test } from 'vitest'
import { nearest } from '../src/nearest.ts'
import { createProgram } from '../src/program.ts'
import { throwMistakes } from '../src/usage.ts'

const program = createProgram('0')
throwMistakes(program, false)
const commands = program.commands.map((command) => command.name())

test.each([
  ['lsit', ['list']],
  ['tarin', ['train']],
  ['Trian', ['train']],
  ['stauts', ['status']],
  ['valdiat', ['validate']],
  ['model', ['models']],
  ['eval', ['evaluate']],
  ['sta', ['status']],
  ['data', ['datasets']],
  ['comp', ['compare', 'completion']],
])('"%s" is a slip for %j', (word, meant) => {
  expect(nearest(word, commands)).toEqual(meant)
})

test.each(['show', 'run', 'login', 'start', 'push', 'ls', 'rm', 'help me', ''])(
  '"%s" is another word, not a slip',
  (word) => {
    expect(nearest(word, commands)).toEqual([])
  },
)

describe('a mistake is told with what was meant, and only then', () => {
  const told = async (...words: string[]) =>
    await program.parseAsync(words, { from: 'user' }).then(
      () => 'none',
      (error: Error) => error.message,
    )
  test.each([
    [['lsit'], "unknown command 'lsit'\n(did you mean list? mlx-training --help lists the commands)"],
    [['show'], "unknown command 'show'\n(mlx-training --help lists the commands)"],
    [['train', '--epoch', '3'], "unknown option '--epoch'\n(did you mean --epochs? mlx-training"],
    [['train', '--max', '3'], '(did you mean --max-steps or --max-seq-length?'],
    [['datasets', 'rows', 'x', '--jsn'], '(did you mean --json?'],
    [['train', '--gpu'], "unknown option '--gpu'\n(mlx-training"],
    [['train', '-x'], "unknown option '-x'\n(mlx-training"],
  ])('%j', async (words, text) => {
    expect(await told(...words)).toContain(text)
  })
})
