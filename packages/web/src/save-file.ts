/** Hands an answer to the browser as a download: the key goes in a header, which a link can't send. */
export async function saveFile(answer: Response, name: string): Promise<void> {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(await answer.blob())
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}
