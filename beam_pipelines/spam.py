"""Which texts are pages of gambling sites or of shops for accounts.

Such a page names its goods, promises something, and calls its reader, close together. None of
these says much alone: travellers write about casinos, shops that are honest have customers who log
in, and histories tell of lotteries. Goods are what only such a page has three of; a place or a word
that others use every day (a hotel, a board game) is left out. Words are looked for in the folded
text, where 亚 博 and 娛樂 are 亚博 and 娱乐. Knows nothing of thresholds.
"""

import re
from collections.abc import Sequence

import numpy as np

from beam_pipelines.characters import folded
from beam_pipelines.ideographs import simplified

_GAMES = frozenset(
    "百家乐 六合彩 时时彩 老虎机 轮盘 龙虎斗 德州扑克 炸金花 抢庄牛牛 百人牛牛 真人棋牌 北京赛车 "
    "极速赛车 幸运飞艇 快3 pk10 一肖 一肖一码 特码 计划群 彩票计划群 马会资料 博彩 彩金 投注 "
    "下注 赔率 盘口 滚球 bet365 金宝博 威廉希尔 必威体育 亚博体育 华体会 米乐体育 乐鱼体育 "
    "开云体育 欧宝体育 爱游戏体育 皇冠体育 体育投注 娱乐城 现金网 贵宾会 娱乐平台 线上娱乐 "
    "网上娱乐 在线娱乐 太阳城娱乐 金沙娱乐 永利娱乐 葡京娱乐 威尼斯人娱乐 真人娱乐 真人视讯 "
    "真人荷官 电子游艺 pg电子 ag真人 jdb电子 casino slots blackjack roulette baccarat jackpot "
    "sportsbook livedealer poker".split()
)
_GAMING_PROMISES = frozenset(
    "注册送 注册即送 注册就送 注册送彩金 送彩金 体验金 首存 返水 存取款 存提款 充值提款 提款秒到 "
    "秒到 极速到账 火速到账 稳赚 稳赢 包赢 期期准 期期中 一期计划 精准计划 带飞 导师带 招代理 "
    "信誉第一 信誉最 最高返 最高赔率 赔率最高 免费试玩 在线发牌 真人发牌 usdt welcomebonus "
    "depositbonus nodeposit freespins bonuscode".split()
)
_SHOP_PROMISES = frozenset(
    "自动发卡 自动发货 发卡平台 秒发 质保 包首登 包换 包售后 支持售后 售后无忧 支持换绑 支持验货 "
    "支持批量 假一赔 担保交易 平台担保 平台中介 走平台中介 走平台 量大 从优 批发价 低价转让 "
    "低价出售 高价收购 高价回收 当场结算 一手货源 长期供应 长期出售 长期收购 质量稳定 "
    "安全稳定".split()
)
_CALLS = frozenset(
    "加q 加微 加v 加我 进群 联系微信 微信联系 联系q q联系 联系v 官方网址 最新网址 备用网址 "
    "官网网址 官网登录 官网入口 登录入口 登陆入口 注册开户 开户注册 网上开户 立即注册 马上注册 "
    "点击注册 立即下载 官网下载 app下载 手机版下载 收藏本站 本站 本店 我店 小店 欢迎您 欢迎来到 "
    "欢迎光临 欢迎咨询 欢迎选购 详聊 详谈 私聊 要的老板 有意者 有意联系 非诚勿扰 在线下单 下单即 "
    "signupnow signuptoday registernow joinnow playnow claimyour".split()
)
_ACCOUNTS = (
    "账号 微信号 qq号 陌陌号 抖音号 快手号 微博号 邮箱号 小号 老号 白号 成品号 首充号 等级号 直登号"
).split()
_TRADES = "出售 批发 购买 交易 转让 收购 回收 出租".split()
_ACCOUNT, _TRADE = "|".join(_ACCOUNTS), "|".join(_TRADES)
_BETWEEN = "(?:(?![不勿禁])[\\w ]){0,6}"  # an account that must not be sold is in no shop
# In one clause: who registers an account, and then buys something, trades in none.
_TRADED_ACCOUNT = re.compile(
    f"(?:{_TRADE}){_BETWEEN}(?:{_ACCOUNT})|(?:{_ACCOUNT}){_BETWEEN}(?:{_TRADE})"
    r"|(?:出售|批发)(?:各[种类国]|大量|全新|国外)+邮箱"
)
_CONTACT = re.compile(
    r"(?:qq|微信|vx|电报|telegram|whatsapp)[群号]?\s*[:：]\s*[a-z0-9_]{5,}"
    r"|[a-z0-9]\.(?:com|net|cc|vip|app|xyz|top)(?![a-z])"
)
# Who reports, judges, warns, regrets or travels says these; who sells seldom does.
_REPORTS = (
    "警方 警察 公安 民警 检察 法院 法律 法规 被告 嫌疑 判处 判决 徒刑 罪 涉案 案件 抓获 落网 "
    "打击 查处 破获 举报 诈骗 被骗 骗局 骗子 受害 违法 违规 非法 监管 监察 记者 提醒 处罚 赌博 "
    "赌徒 戒赌 沉迷 输光 血本无归 投诉 退款 研究 历史 起源 小说 福彩 体彩 福利彩票 体育彩票 "
    "靠谱吗 可信吗 安全吗 输了 输掉 欠债 还债 赌债 家人 酒店 参观 游客 旅客 客房 订房 招揽 税 "
    "冒充 风险 警惕 上当 规定 审核 不得 禁止 教程 指南 入门 手册 卖家 网友 不要相信 假的 police "
    "illegal lawsuit regulator addict"
).split()
_WORDS = re.compile(
    "|".join(
        sorted(
            _GAMES | _GAMING_PROMISES | _SHOP_PROMISES | _CALLS | {*_ACCOUNTS, *_TRADES},
            key=lambda word: (-len(word), word),
        )
    )
)
_CHARACTERS_A_WORD = 100  # at the most, on such a page
_ENOUGH = 3  # different goods of a gambling site


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first.astype(np.uint64) << np.uint64(32) | second


def _first_pair(word: str) -> list[int]:
    """The first two characters of a word, side by side, that are not both Latin."""
    pairs = zip(word, word[1:], strict=False)
    return next([ord(one), ord(other)] for one, other in pairs if not (one + other).isascii())


# A page in Chinese names one of these: not all of its goods are written in Latin letters alone.
_GOODS = [_first_pair(word) for word in {*_GAMES, *_ACCOUNTS} if not word.isascii()]
_GOODS = np.array(_GOODS, np.uint32)
# A page in English has these alone.
_LATIN_GAME = re.compile("|".join(sorted(filter(str.isascii, _GAMES))), re.IGNORECASE)
_GOODS_PAIRS = np.unique(_pair(*_GOODS.T))
_BEGINS_GOODS, _GOES_ON = np.zeros((2, 0x110000), bool)
_BEGINS_GOODS[_GOODS[:, 0]] = _GOES_ON[_GOODS[:, 1]] = True


def count_spam_words(texts: Sequence[str]) -> list[int]:
    """How many different words of such a page each text has.

    They are what it promises and what it calls to, but no more than its games, less the words of
    who reports; none, unless it does both, and names three games or trades in accounts.
    """
    codes, lengths = folded(texts)
    codes = _simplified(codes)
    ends = np.cumsum(lengths)
    is_asked = _name_goods(codes, ends)
    is_asked |= np.array([_LATIN_GAME.search(text) is not None for text in texts], bool)
    counts = [0] * len(texts)
    for index in np.flatnonzero(is_asked):
        text = codes[ends[index] - lengths[index] : ends[index]].tobytes().decode("utf-32-le")
        counts[index] = _count_words(text, texts[index])
    return counts


def _simplified(codes: np.ndarray) -> np.ndarray:
    codes = simplified(codes)
    return np.where(codes == ord("帐"), np.uint32(ord("账")), codes)


def _name_goods(codes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether each text may name goods in Han: by two characters of them, for that is fast."""
    begins = np.flatnonzero(_BEGINS_GOODS[codes[:-1]] & _GOES_ON[codes[1:]])
    begins = begins[np.isin(_pair(codes[begins], codes[begins + 1]), _GOODS_PAIRS)]
    named = np.zeros(len(ends), bool)
    named[np.searchsorted(ends, begins, side="right")] = True
    return named


def _count_words(folded_text: str, text: str) -> int:
    # 1. Each character is of one word, the longest that begins first.
    found = _WORDS.findall(folded_text)
    if len(found) * _CHARACTERS_A_WORD < len(folded_text):
        return 0
    words = set(found)
    # 2. A call, a word or an address.
    codes = np.frombuffer(text.lower().encode("utf-32-le"), np.uint32)
    clauses = _simplified(codes).tobytes().decode("utf-32-le")
    calls = len(words & _CALLS) + (_CONTACT.search(clauses) is not None)
    # 3. Goods; 一肖 and 一肖一码 are one.
    games = words & _GAMES
    games = len([one for one in games if not any(one in other for other in games - {one})])
    of_games, of_accounts = len(words & _GAMING_PROMISES), len(words & _SHOP_PROMISES)
    counts = [0]
    if games >= _ENOUGH and of_games and calls:
        counts.append(min(games, of_games + calls))
    if of_accounts and calls and _TRADED_ACCOUNT.search(clauses):
        counts.append(of_accounts + calls)
    # 4. Who reports.
    return max(max(counts) - sum(word in folded_text for word in _REPORTS), 0)
