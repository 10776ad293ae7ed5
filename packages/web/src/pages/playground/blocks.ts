export type Block = { kind: 'text' | 'code'; text: string }

/** Fences of three or more backticks, at the beginning of a line; one that is still open lasts to the end. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = []
  let lines: string[] = []
  let fence: string | null = null
  const end = (kind: Block['kind']) => {
    const content = kind === 'code' ? lines.join('\n') : lines.join('\n').trim()
    if (content !== '') blocks.push({ kind, text: content })
    lines = []
  }
  for (const line of text.split('\n')) {
    const mark = /^ {0,3}(`{3,})[^`]*$/.exec(line)?.[1]
    if (fence === null && mark) {
      end('text')
      fence = mark
    } else if (fence !== null && mark && mark.length >= fence.length && line.trim() === mark) {
      end('code')
      fence = null
    } else lines.push(line)
  }
  end(fence === null ? 'text' : 'code')
  return blocks
}
