/** Scripts that put no blank between words; two of their characters are about one word. */
const UNSPACED =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u
const FIRST_UNSPACED = 0x0e00

/** Runs of characters between blanks. */
export function countWords(text: string): number {
  let words = 0
  let unspaced = 0
  let inWord = false
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit <= 0x20 || unit === 0xa0 || unit === 0x3000) inWord = false
    else if (unit >= FIRST_UNSPACED && UNSPACED.test(text.charAt(i))) {
      unspaced++
      inWord = false
    } else if (!inWord) {
      words++
      inWord = true
    }
  }
  return words + Math.ceil(unspaced / 2)
}
